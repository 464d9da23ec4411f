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
// nothing but its own nodes in there.
//
// # What runs on request
//
// A daemon that its manifest calls on request is idle, and its callers refused,
// between StopProgram and StartProgram (request.go). What must be alone is stopped
// before it is started again; all others are started beside themselves.
//
// # What one daemon gives another
//
// For every pair of giver and receiver there is a directory /run/from/GIVER/RECEIVER
// that the giver writes and the receiver's group reads (share_linux.go). It is made
// before anybody starts, so keys and configuration reach programs that can make no
// call, and nobody else's root has it.
//
// # Programs that others wrote
//
// They get no Spec and no notify pipe: they are ready once they run, give no sign of
// life, and every exit is a crash. The same walls are around them. Since they do not
// seal themselves, their seccomp filter, compiled into the image, is installed just
// before execve; Landlock they have none.
//
// # Domains
//
// A domain (domain_linux.go) is for programs that start others. Its first process
// gets mount, PID, IPC and cgroup namespaces, and the machine's network and name;
// the other members enter them. Mounts are
// shared within and private outwards, and what its directories hold may be executed.
// Its programs are uid 0 in the machine's user namespace, so what keeps them in is
// what the namespaces do not show, the bounding set of each, and a BPF program that
// refuses all devices but those of a short list, whatever nodes are made
// (devices_linux.go). It is attached above the domain's cgroup
// namespace, where the domain's root cannot take it off.
//
// The domain's root can stop, freeze, trace and read every process in its PID namespace from
// the first instruction on. So a member is made by two processes (program_linux.go): the
// first gives up everything that the member does not have, in PID 1's PID namespace and in a
// cgroup outside the domain's, and makes the second with CLONE_PARENT in the domain's PID
// namespace. The second moves itself to its leaf and executes its program. It may never get
// there; what it reports is not believed; the start timeout kills it (children_linux.go).
//
// With the first process the kernel ends all of them; they are started again after
// it. A member that is stopped or killed takes along what is in its own cgroup, and
// nothing else.
//
// # Who calls it
//
// The services machine and, in images that have them, dev and probe. It
// restarts a daemon beside itself: the new process must be ready before the old
// one is told to stop. StartProgram and StopProgram are kubed's.
//
// # What survives
//
// Nothing survives PID 1: when it ends, the kernel panics and the machine boots
// again. It therefore accepts nothing from outside but the calls that the
// manifests name, bounds each of them, and treats what daemons write to it as
// untrusted text.
//
// # Not yet
//
// The power button and hardware watchdogs: both want a driver's device and a
// policy, which is a daemon's work.
package main
