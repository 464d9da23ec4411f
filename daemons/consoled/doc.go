// Command consoled shows the machine's state on its serial line and its screen:
// where the API is, how to claim the machine, what is not well. It is for whoever
// stands in front of a machine that has no other face.
//
// It takes no input: the terminals are opened for writing only, and are
// nobody's controlling terminal. It shows no secret but the pairing code, which is
// worth nothing once the machine is claimed, and then no more shown. It keeps
// nothing; a new process draws anew.
//
// The serial line gets plain lines, so that the kernel's and its own can be told
// apart and a program can read them. All are printed again when one has changed,
// at most every two seconds while the machine starts:
//
//	dactyl 0.1.0 (dev), kernel 6.12.41
//	API: https://10.0.2.15:7400
//	pairing code: XXXX-XXXX-…
//	fingerprint: 5e88…
//	Kubernetes: home, node edge-1 is Ready   (or "home, not Ready: …", with what is waited for)
//	timed: backoff: …            (each daemon that is not up; of Kubernetes' parts those in trouble)
//	dactyl 0.1.0 ready           (or "not ready: …", with what is missing)
//
// The screen is drawn whole when something has changed, with all daemons.
//
// It asks its peers once a second until all daemons are up, then every two seconds,
// and, while nothing changes and the node is Ready, down to every thirty. What a peer said last
// stands until it says something else; one that has never answered is "starting".
package main
