// Package manifest reads every daemon.toml, checks all of them together and
// compiles them: the strict JSON that PID 1 reads, the gateway's table, and the
// authority graph that people read.
//
// No key, no right; a right without a reason does not compile. Unknown keys, two
// daemons with one user, a call to a method that does not exist, and a call that
// does not go to a lower tier (so that calls could wait for each other in a
// circle) are errors that name the file and say what would be right.
//
// # Programs that others wrote
//
// They have a daemon.toml like any daemon (buildkit/packages/units). program says
// which file of the image it is, at where it finds itself, [from] which daemons hand
// it files. PID 1 seals them, with a filter that is compiled here.
//
// A domain is a set of such programs that share namespaces: pods and all that makes
// them. What they share is said once, at the one whose name the domain has; the
// others say which of its capabilities they keep.
package manifest
