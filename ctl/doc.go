// Command dactyl manages machines that run Dactyl, from the user's own computer.
// It writes images to disks, claims a new machine with the code that its console
// shows, and then speaks the machine's API: gRPC over TLS 1.3 on port 7400, with
// a client certificate.
//
// # What it keeps
//
// $DACTYL_CONFIG, or ~/.config/dactyl, holds contexts.yaml: for each machine its
// address, the CA that it was claimed with, and a client certificate with its
// key. Keys are made here and never leave this computer. The file is readable by
// its owner alone and is replaced as a whole, under a lock. Which machine is
// meant: --context, $DACTYL_CONTEXT, or the current one; --address and
// $DACTYL_ADDRESS go elsewhere with the same credentials.
//
// An admin's certificate renews itself: past two thirds of its life, a command
// that has succeeded fetches another.
//
// # What it prints
//
// Tables for people; with -o json and -o yaml the API's own messages, with the
// fields' names as they are in the .proto files, every field present, 64-bit
// numbers as strings and enums as the names of their values, as proto3's JSON has
// them: DAEMON_STATE_UP, where a table has up. So they are the same as in what grpcurl
// prints, and every protobuf library reads them. Streams are one JSON object per
// line. Headers and names do not change between versions of one major number.
// Everything that a machine says is made printable before it reaches a terminal.
// Answers go to stdout; questions, progress, warnings and errors to stderr.
//
// # Exit codes
//
//	0    done
//	1    something else went wrong, here or on the machine
//	2    the machine cannot be reached, or stopped answering
//	3    one side does not accept the other: certificate, role or pairing code
//	4    what was named does not exist
//	5    refused: not in this state, not without consent, nothing was changed
//	6    no answer in time
//	7    this machine does not know the command (dev on a production image)
//	64   the command line is wrong
//	130  interrupted
package main
