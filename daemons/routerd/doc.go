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
// (engine.go), so that a client is told what is wrong in words instead of by a
// broken handshake:
//
//	UNAUTHENTICATED     no certificate, or one that is expired, of another CA or not a client's
//	PERMISSION_DENIED   the role is less than the method's, or is none
//	UNIMPLEMENTED       no such method, or none that can be called from outside
//	RESOURCE_EXHAUSTED  a message of more than 4 MiB
//	DEADLINE_EXCEEDED   no answer within the call's deadline, or 30 s where it has none
//	UNAVAILABLE         the daemon is down, or died with a call that may have taken effect
//
// Everything else is the daemon's own answer, with its details. Methods with the
// role "anyone" and the health service need no certificate. Reflection (v1 and
// v1alpha) needs a reader and shows what the table holds, no more.
//
// Every call is one line in the log: caller, role, address, method, status,
// duration. Calls without a certificate are logged a few per second at most.
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
// A stranger, that is whoever has shown no certificate of ours, gets little: a
// connection of his lives for a minute and carries at most 64 KiB to us; 16 of
// them per address, 64 in all; no header of more than 8 KiB. Of any address there
// are 64 connections, in all 512; a handshake takes at most 10 s. A connection
// that is idle for 15 minutes is closed. Garbage costs its sender the connection
// and us, now and then, a line in the log.
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
