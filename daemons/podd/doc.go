// Command podd speaks to containerd for the machine: it loads, lists and removes
// images, and ends the pods when the machine ends.
//
// It lives outside of the pods' domain, as a user of its own, without capabilities and
// without a network. Of the domain it sees one socket, containerd's, and through it can
// do whatever containerd can, which is why it is small and does little.
//
// # Images from files
//
// A machine needs no registry: LoadImage takes what docker save writes, or a tar of an
// OCI image layout, as it comes over the wire. Reading a stranger's archive is podd's
// work, not that of containerd, which is root: podd hands containerd's content store one
// file after the other, names the digest that it has computed itself, and only when all
// that the documents refer to is there, and matches, has the layers unpacked and the
// image named. Only what this machine can run is looked at.
//
// Everything is made under a lease. When that ends, what no image keeps is collected,
// before the caller has the answer: after an error nothing is left; after success the
// layers as they came are gone, too, because their unpacked form is what pods use. A
// podd that was killed leaves its lease behind; the next one ends it.
//
// Names are the kubelet's: busybox becomes docker.io/library/busybox:latest. The kubelet
// learns of an image by an event; the answer waits until it has. So a pod with
// imagePullPolicy Never can be made at once.
//
// A name with a tag that a person has given is pinned: the kubelet does not collect its
// image. LoadImage, which an operator may call, gives new names only. That a name stands
// for another image takes ReplaceImage and an admin: the next start of a privileged pod
// may run it.
//
// While it loads, storaged is asked five times a second how full the disk is: nothing is
// loaded into the part that the kubelet keeps free by ending pods.
//
// When it starts, it sees to it that the images in /lib/pods/images are there, and marks
// them as the system's, which nobody can remove or replace.
//
// # Credentials for registries
//
// An admin sets a name and a password for a registry. podd keeps them on STATE and gives
// them to the kubelet, in the form of docker login's file, from which the kubelet takes
// them for every pull. No method returns a password. The root of the pods' domain can
// read the file, as it can everything that the kubelet can.
//
// # The machine's end
//
// PID 1 stops the kubelet before podd and containerd after it. So, told to end, podd asks
// PID 1 whether the machine ends, and if it does, ends the pods: first the ordinary ones,
// all at the same time, each within its own grace but no more than 20 seconds; then those
// of kube-system, which may be what the others needed. All of it is over after 30
// seconds. preStop hooks are not run: they are the kubelet's. When podd itself is
// restarted or replaced, no pod notices.
//
// # Who calls it, what survives a restart
//
// The outside, through the gateway, and kubed, which asks whether pods can be started.
// podd keeps the credentials: images are containerd's. A load that was under way fails and can
// be tried again.
package main
