// Command timed owns the clock: it asks several time servers, believes their
// median, steps the clock when it is far off and lets the kernel slew it otherwise.
//
// It never delays the boot: it is ready at once, and until a server answers GetTime
// says synchronized=false and why. Without a network it keeps trying, first after
// a second, then ever more seldom up to once a minute, and writes to the log only when
// something changes. With one it asks every minute at first and every 15 minutes when
// the clock proves steady.
//
// # How the time is found
//
// The servers are configd's (asked again each time, so a changed YAML needs no
// restart); when the file names none, those that DHCP named (networkd lists them), and
// the default ones when none of these has a good answer. Their names are resolved by asking the name servers that networkd lists: a
// daemon has no /etc/resolv.conf. Each is given 2 seconds, and the one that answered
// last is asked first. Up to 4 answers are collected one after the other;
// an answer that is not valid by RFC 5905 (unsynchronised server, too great a distance
// from its reference, kiss of death) or that took long is no answer. The median offset
// is taken: with three servers or more, one that lies moves nothing. An answer by which it
// would be earlier than the build of the image is no answer either. A server that says
// it may be wrong by more than 1.5 s (up to NTP's 16) is believed with a note in GetTime,
// until a better one has answered; after that it is no answer.
//
// Off by more than 128 ms (NTP's own threshold) the clock is stepped; below, the
// kernel's phase-locked loop takes the offset and learns the crystal's error on the way.
// The kernel writes the time to the clock on the board by itself every 11 minutes
// while it knows it to be right.
//
// # What it never does
//
// It authenticates no server (no NTS yet): who controls the path to all servers
// controls the clock. It opens no port. It steers no leap second: a server's own
// step follows at the next poll.
//
// # Who calls it, what survives a restart
//
// The outside, through the gateway, and trustd, which asks whether a server has confirmed the
// clock. The clock and the kernel's loop go on; what
// GetTime reports starts anew with the first answer, a second or so after a restart.
package main
