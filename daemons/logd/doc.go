// Command logd keeps the newest lines of every daemon and of the kernel in
// memory, and hands them out. It serves ipc/log.
//
// It reads the pipes that are the daemons' stdout and stderr (PID 1 keeps their
// other ends, so a daemon's death closes nothing) and /dev/kmsg. It never writes
// to a disk, a console or the network, never interprets a line, and never makes
// a daemon wait: what it is too slow to read, the writer drops and counts.
//
// Lines are at most 8 KiB; longer ones are cut. What is not UTF-8, and control
// characters, are replaced, so that showing a log cannot drive a terminal. A
// kernel message is one line that begins with its level.
//
// # What survives
//
// Each source has two files of equal size in /run/logd, which is memory, used in
// turn: when one is full the other is emptied. They are mapped, and a line is
// valid from the moment its length is written, so a logd that is killed finds
// all its lines again, and cursors go on. Nothing survives a reboot.
//
// While a new logd replaces an old one, both run. The files belong to the one
// that holds the lock on /run/logd/lock: the new one is ready first, then the old
// is told to end and lets go, then the new one maps the files and reads the
// pipes, in which lines have waited meanwhile. Calls to the new one wait for that.
package main
