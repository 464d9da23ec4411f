// Storaged owns block devices and mounts.
//
// # What it does
//
// At its start it finds the disk that the machine booted from: the one with the
// partition under the verity device that holds the image. On that disk it makes both
// copies of the partition table right (a flashed image's backup is in the middle of a
// larger disk), lets EPHEMERAL end where the disk does, mounts ESP on /boot, STATE on
// /state and EPHEMERAL on /var, and gives filesystems that still have the image's UUID
// one of their own. Then it seals itself, is ready, and lets the filesystems take the
// space of their partitions while others already use them.
//
// Without such a disk, /state and /var are memory.
//
// # What it never does
//
// It never touches a disk that the machine did not boot from, nor a partition table
// that is not the one the kernel runs on. It never wipes STATE: that is who the
// machine is. It mounts nothing once it is ready: Landlock and seccomp see to that.
//
// # When a filesystem will not mount
//
// A filesystem whose content is at fault is repaired with e2fsck first: one whose
// superblock has the error flag before it is mounted, since the kernel would mount it
// and make it read-only at the next access to what is wrong, and one that will not mount
// (EUCLEAN, EBADMSG, EINVAL from the filesystem itself, after it had its chance to
// replay the journal). People's data and etcd's database are on EPHEMERAL. Only if
// e2fsck says that errors remain, or it still does not mount, is EPHEMERAL made again: the
// empty ext4 of the image is copied over it. A repair that was not finished in 40 s, or
// failed for another reason, leaves what mounts as it is; the next boot tries again. If the disk is at fault (EIO), or that did not
// help, /var is memory, so that the machine can still be asked what is wrong.
//
// STATE that will not mount and cannot be repaired stays as it is and /state stays empty and read-only:
// memory in its place would give the machine another identity without a word. Daemons
// that keep state there do not start, so the API is not reached; the log on the console
// says why. Put another disk in, or flash this one and join again.
//
// # Power cuts
//
// There is no first-boot mode. engine.go looks at what is there and wants the next
// step, so a cut between two steps, or within one, needs nothing special: the copy of
// the table in use is written last; the superblock of a new filesystem is written
// last; a filesystem grows only into what the table on the disk already gives it.
// While the first copy of the table is being written the kernel needs "gpt" on its
// command line to use the other.
//
// # Who calls it, what survives
//
// The API, through routerd. It calls nobody. It keeps nothing of its own: one that is
// started anew finds the mounts in place, by the device that each directory shows.
package main
