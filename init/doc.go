// Command init is PID 1. It mounts what every program needs, reads the compiled
// form of all daemon.toml, starts the daemons in the order of their tiers, each behind its own
// walls, starts them again when they end, and on the way down stops them in
// reverse. It decides nothing that a daemon can decide and calls nobody.
//
// # What it owns
//
// The descriptors that outlive a daemon: one listening socket for every pair of
// caller and service (at /run/ipc/CALLER/SERVICE), the network sockets of
// [listen], and one pipe per daemon for its log, whose reading ends go to logd.
// So a daemon may die or be replaced and nobody who talks to it notices more
// than a pause.
//
// # How a daemon is started
//
// Everything a daemon will see is made beforehand by ordinary code in PID 1, as
// mounts that are attached nowhere: its root (root_linux.go), its /dev, a clone
// of each path that it may read or write. What is left to do in the new process
// is a straight list of system calls without a branch (program_linux.go): enter
// new namespaces, attach the mounts, make them the root, give up rights, execve.
// The list is data, computed and tested in PID 1; the forked child only walks
// along it (fork_linux.go). That is why there is no second program and no second
// Go runtime between PID 1 and a daemon, and why a step that the kernel refuses
// is reported by name.
//
// A daemon has its own mount, PID, IPC, UTS, cgroup and (unless granted)
// network namespace, and where its rights allow it its own user namespace, whose
// capabilities mean nothing to the namespaces around it. Device nodes are kept
// from it by having no CAP_MKNOD, nodev on every mount but its own /dev, and
// nothing but its own nodes in there; there is no cgroup device filter.
//
// # Who calls it
//
// The services machine and, in images that have them, dev and probe. It
// restarts a daemon beside itself: the new process must be ready before the old
// one is told to stop.
//
// # What survives
//
// Nothing survives PID 1: when it ends, the kernel panics and the machine boots
// again. It therefore accepts nothing from outside but the calls that the
// manifests name, bounds each of them, and treats what daemons write to it as
// text from strangers.
//
// # Not yet
//
// The power button and hardware watchdogs: both want a driver's device and a
// policy, which is a daemon's work.
package main
