// Command routerd is the gateway: gRPC over TLS 1.3 on port 7400 outside, ttrpc
// over unix sockets inside, with the same services and the same bytes.
//
// It never reads a payload, decides nothing but who may call what, keeps nothing
// on disk and knows no daemon by name but the one that signs its certificate: the
// table of methods, sockets and roles is compiled into the image. It has no
// network of its own: the port is a socket that PID 1 holds, and what it accepts
// there is all it ever gets. It cannot open a connection to anywhere.
//
// # Who may call
//
// A client shows a certificate of this machine's OS CA; its organisation is the
// role, reader < operator < admin, and each method names the least one. TLS asks
// for the certificate but does not judge it: routerd does, in one place
// (engine.go), so that a client gets a message that says what is wrong instead of a
// broken handshake:
//
//	UNAUTHENTICATED     no certificate, or one that is expired, of another CA or not a client's
//	PERMISSION_DENIED   the role is less than the method's, or is none
//	UNIMPLEMENTED       no such method, or none that can be called from outside
//	RESOURCE_EXHAUSTED  a message of more than 4 MiB, or too many calls in progress
//	DEADLINE_EXCEEDED   no answer within the call's deadline, or 30 s where it has none
//	UNAVAILABLE         the daemon is down, or died with a call that may have taken effect
//
// Everything else is the daemon's own answer, with its details. Methods with the
// role "anyone" and the health service need no certificate. Reflection (v1 and
// v1alpha) needs a reader and shows what the table holds, no more.
//
// Every call is one line in the log: caller, role, address, method, status,
// duration. Calls of anonymous clients, and those that exceed a limit, are logged a few per second at most.
//
// # Its own certificate
//
// The key is made in memory and never leaves it; trustd signs it for the
// machine's names. It accepts nothing before it has a certificate: clients wait in
// the socket's queue. It asks for a new one, with a new key, after two thirds of
// 24 h by the wall clock (looking every 30 s and at each handshake, as the clock may
// be set), and when a client comes by an address or name that the certificate does
// not carry, for instance because DHCP answered later. That is when it matters, it costs
// nothing otherwise, and it holds that one handshake up for the few milliseconds
// that make it succeed. Open connections are not touched.
//
// # Limits
//
// A client with a valid certificate that carries a role is a member; every other one is
// anonymous, also with a certificate that has expired, is not valid yet, is of another CA or
// carries no role. The handshake decides it. Nothing that anonymous clients do, and nothing that
// members of a lower role do, may keep a member of a higher role out.
//
// Handshakes: 256 connections may be in theirs, each for 10 s and 16 KiB. A newcomer displaces the
// oldest one of the address that has the most (of IPv6, of the network that has the most). 100
// handshakes a second are computed, 64 more at once after a pause; when more wait, the addresses
// take turns.
//
// Anonymous clients: 64 connections, with the same rule for newcomers, except that a
// connection whose call a daemon works on is left alone. Each lives for a minute and carries 64 KiB
// to us, 2 calls at a time and 16 KiB a message, which has to arrive within 5 s. The daemons work on two of
// their calls at a time. Their gRPC server is another than the members'.
//
// Members: 256 connections and 256 calls in all, 32 connections and 64 calls with one certificate, from wherever
// it is used. Readers take at most half of all, operators three quarters. A message has to arrive within 34 s.
// Three messages of more than 64 KiB may come in or be worked on at a time (readers: 1, operators: 2); others wait
// in their clients, because the gateway does not read on from their connections. These
// limits hold for health and reflection as well. The numbers are chosen for the memory in daemon.toml.
//
// A header has at most 8 KiB. A connection that is idle for 15 minutes is closed. Garbage costs its sender
// the connection and us, now and then, a line in the log.
//
// # Replacement
//
// Old and new process accept from the same queue. The old one stops accepting,
// finishes the handshakes that it has begun, and sends GOAWAY on every
// connection: clients open new ones for new calls while those under way are
// answered. Streams that a daemon sends are ended with UNAVAILABLE: "call again".
//
// # Building
//
// With the tag grpcnotrace: without it gRPC links text/template for a debug page
// that nobody serves, which costs 2.7 MB and the linker's dead-code elimination.
//
// # Not yet
//
// Calls are not forwarded to other nodes; that will need a network.
package main
