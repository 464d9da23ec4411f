// Kubed supervises Kubernetes.
//
// It renders the configuration of Kubernetes' components from the machine's part of
// the cluster's YAML, has trustd make their keys, asks PID 1 to run them and watches
// how they are. Without a cluster in the YAML there is nothing to run, and it says so.
//
// It never starts a program itself: only PID 1 does. It sees no key but its own, and
// no pod. So kubed can be replaced at any time without touching one.
//
// # Order
//
// A part starts when what it needs is healthy, and not before; there is no other
// order, and no time is waited for (parts.go):
//
//	keys → etcdd → kube-apiserver → kube-controller-manager, kube-scheduler, kubelet, kube-proxy
//	keys → pods → containerd → podd          kubelet needs containerd too
//	kube-apiserver → what kubed puts into the cluster → coredns
//
// podd answers for containerd, as kubed is not in the pods' domain.
//
// # How it works
//
// The engine (engine.go, what it is told in events.go, what it wants in actions.go) has
// no I/O and no clock. It compares what should run with what PID 1 has been asked
// for and says what to do about the difference. server.go does that and tells the
// engine how it ended, one thing of a kind at a time, again later if it failed.
//
// Everything that a program is configured with is in its flags, or in files whose names
// have a sum of their content (internal/render). PID 1 leaves a program alone that runs
// with the flags that are asked for. So a change restarts those whom it concerns and
// nobody else, and a new kubed, which knows nothing, asks for everything again and
// changes nothing.
//
// # Health
//
// PID 1 starts again what ends. kubed asks the parts themselves, every 10 seconds those
// that are well (every 30 when all have been for a minute and nobody asks for them, as
// each question costs the memory and time of who answers), and has one restarted that
// lives, lacks nothing and does not answer for 3 minutes (10 minutes after its start,
// and twice as long each time that was in vain); who begins to work is given that time
// once more to be well. etcdd and podd are spared: PID 1 sees their signs of life. A
// part that was well is believed ill after three failures.
//
// # Who the node is
//
// Its name is the machine's when the node is first made, and stays; its address is one
// of DHCP or the configuration and stays as long as the machine has it. Should there
// be none within 10 seconds, it is networkd's 192.0.0.8, which every machine has, until
// there is another; then certificates are recreated and those parts are restarted
// whose flags name the address. An address that goes while nothing replaces it changes
// nothing.
//
// # What is repaired
//
// A kubelet registers its node when it starts and never again. So when the node is gone
// from the cluster, its kubelet is restarted. The node's range of pods' addresses comes
// from the same place as the pods' network (render.Node.PodRange).
//
// # What survives
//
// /var/lib/dactyl/kubed/node.json: name and address. It lies beside the database, so a
// node whose data is gone is a new one.
//
// # Whom it calls and who calls it
//
// configd, trustd, networkd, etcdd, podd and PID 1, over ipc; over HTTPS with its own
// certificate the API server, for what every cluster has (internal/render/objects.go),
// looked at every 30 seconds and applied again when one was changed, and for the node's state; the others' health on 127.0.0.1. It is asked
// by routerd, for the API, and by consoled, for the screen.
//
// docs/kubernetes.md says what is set and why.
package main
