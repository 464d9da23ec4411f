// Kubed supervises Kubernetes.
//
// It renders the configuration of Kubernetes' components from the machine's part of
// the cluster's YAML, asks PID 1 to run them and watches how they are. As long as no
// cluster is configured there is nothing to run, and it says so.
//
// It never starts a program itself: only PID 1 does. So kubed can be replaced without
// touching a pod. It calls nobody yet, keeps nothing, and is asked by routerd, for the
// API, and by consoled, for the screen.
package main
