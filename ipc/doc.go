// Package ipc is how Dactyl's daemons talk to each other inside one machine:
// ttrpc over unix sockets, one folder of this package per service.
//
// # Who is calling
//
// PID 1 binds one listening socket for every pair of caller and service that
// the manifests allow, puts it into the caller's mount namespace alone, at
// /run/ipc/SERVICE, and gives the listening end to the server. So the socket
// itself says who calls: nothing has to be looked up, a user namespace hides
// nothing, and a daemon that is not named cannot even find the door. The
// methods that the caller may use on it are in the server's own manifest, and
// Server refuses all others before a handler runs. Handlers never check callers.
//
// # Restarts lose no call
//
// The listening ends stay open in PID 1 across restarts, so a caller that
// connects while nobody serves waits in the backlog.
//
// ttrpc has no GOAWAY: a server that closes a connection may drop a request
// that is already on its way. So a server that is to finish shuts down the
// *reading* side of each connection. From that moment the kernel refuses a
// caller's writes (EPIPE), and what was refused was never seen: the caller sends
// it again on a new connection, whatever the method. What had been written
// before is still in the socket; the server reads it to the end, answers it, and
// only then closes. A handler that streams is told to end (its context).
//
// A server that is killed cannot say what it had taken in hand. Its callers get
// their unanswered calls back as lost; those of methods marked idempotent in the
// .proto are sent again (a few times: a request may be what kills it), others
// end with UNAVAILABLE, which says that the call may have taken effect.
//
// # Limits
//
// A message is at most 4 MiB (RESOURCE_EXHAUSTED); a server may take less (Limits). A deadline travels with the
// call; a cancellation does not, except on streams, which have a connection of
// their own that closes with the caller's context. Who sends a stream waits while
// the server's handler is four messages behind, for as long as that takes, and
// learns by an error from sending when the handler has answered before the end. In the
// same way a handler that sends a stream waits for its receiver. There is no stream in
// both directions.
package ipc
