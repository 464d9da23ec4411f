// Package render writes the configuration of Kubernetes' components for one node:
// flags where a component has nothing else, files where it has. It has no I/O; the
// same node gives the same bytes.
//
//	node.go           what is known of a node, and what follows from it
//	program.go        what a component is started with: flags and files
//	flags.go          flags, and how those of cluster.yaml are added (ipc/config/extraargs lists them)
//	apiserver.go      kube-apiserver, with its policies in policy.go
//	control.go        kube-controller-manager and kube-scheduler
//	kubelet.go        kubelet
//	containerd.go     containerd and the pods' network
//	proxy.go          kube-proxy
//	coredns.go        CoreDNS
//	objects.go        what kubed puts into the cluster; hostpath.go has one of it
//
// # Files
//
// A file that a program reads once, when it starts, has a sum of its text in its
// name. So other text is another flag, and PID 1, which leaves a program alone that
// runs with the flags that are asked for, starts it anew exactly when something
// changed; kubed remembers nothing of it and can be replaced at any time. Files that
// are read again whenever they change (Live) keep their names. JSON is YAML too, so
// that is what they are written in.
//
// Keys and certificates come from trustd and lie in /run/from/trustd/RECEIVER; what
// is written here names them and never contains one.
package render
