// Package kit is a daemon's main. A daemon writes
//
//	func main() { kit.Main(setup) }
//
// and everything that all daemons do alike happens here, in this order:
//
//  1. take: setup opens whatever the daemon will ever need and registers its
//     service; nothing is served yet.
//  2. renounce: Landlock and seccomp take away, from all threads and for good,
//     every right that daemon.toml does not name.
//  3. ready: one line to PID 1 on abi.NotifyFD, "landlock=6 seccomp=1".
//  4. listen: the first call is accepted, the functions given to Daemon.Go start.
//  5. a newline to PID 1 every abi.WatchdogInterval.
//  6. SIGTERM: contexts end, what callers have asked is answered, exit 0.
//
// # What a sealed daemon can still do
//
// Files: read what its root shows it, write below its [write] folders, use its
// [devices]; never execute, and never make a device node or a socket. Memory:
// none that is executable can be made. Processes: threads of its own, no other
// signal than to itself. Sockets: unix ones, to connect; others only with the
// named set "network" (seccomp_sets.go lists all). What is refused fails with
// EPERM and stands in the kernel's log (audit type=1326).
//
// A daemon with the set "mount" is not held by Landlock's file rules, because a
// process under them cannot mount at all; its mount namespace and seccomp remain.
//
// # Logs
//
// A record is one line, "WARN call refused caller=timed", at most 4096 bytes, so
// that the pipe takes it whole or not at all. A daemon never waits for its log:
// what the pipe does not take is dropped, counted, and the count reported as
// soon as there is room. logd adds the time.
package kit
