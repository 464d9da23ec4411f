// Package packages builds what the image has from others' modules: Kubernetes,
// containerd, runc, the CNI plugins, CoreDNS and the pause image.
package packages
