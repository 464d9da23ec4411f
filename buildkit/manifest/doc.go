// Package manifest reads every daemon.toml, checks all of them together and
// compiles them: the strict JSON that PID 1 reads, the gateway's table, and the
// authority graph that people read.
//
// No key, no right; a right without a reason does not compile. Unknown keys, two
// daemons with one user, a call to a method that does not exist, and a call that
// does not go to a lower tier (so that calls could wait for each other in a
// circle) are errors that name the file and say what would be right.
package manifest
