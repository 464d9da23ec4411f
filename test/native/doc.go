// Package native runs a staged root of Dactyl as what it is, a tree of Linux
// programs, without a machine around it: the same PID 1 and the same daemons in
// new namespaces of the build machine. It is for what an emulator's speed would
// blur (how long a daemon is away, what the gateway costs) and for a first answer
// within a second. What a machine is made of (kernel, disks, firmware) is tested
// in package vm.
//
// # What is inside
//
// New mount, PID, network, UTS, IPC and cgroup namespaces. The root is a copy in
// memory, made read-only, so that neither the host's disk nor a build that goes on
// meanwhile has anything to do with it. /dev has the harmless nodes only, above
// all no disk: storaged finds none and mounts memory. There is no terminal, so
// consoled finds nothing to show anything on and ends ("not wanted"). /dev/kmsg is
// /dev/null by another name: the host's kernel log is neither read nor written.
//
// The network is a loopback interface and nothing else. Nothing is changed on
// the host's side either: the harness enters the namespace for the moment in which
// it makes a connection. So timed, which may set the clock, and with it the
// host's, can ask nobody for the time.
//
// # What is left afterwards
//
// Nothing: with PID 1 the kernel ends all that it has started, and with the last
// process the namespaces and mounts go. PID 1 dies with the process that has
// started it. Only cgroups have to be removed; those of a harness that died are
// removed by the next.
//
// It needs root, and a kernel of 5.14 or later.
package native
