// Command template says in the log when the machine runs short of memory, and
// when that is over. Copy its folder to make a new daemon.
//
// It is in test images only (daemon.toml: only = "test"), where it is one more
// proof that a copy of it is a whole daemon: confined, started, watched and stopped.
//
// It owns nothing, never frees memory, and nobody calls it. Nothing survives a
// restart: a new process says again that memory is short.
//
// # To make a daemon of it
//
//	doc.go           what it owns, never does, who calls it, what survives a restart
//	daemon.toml      name, a user of its own, tier; each right with its reason
//	main.go          setup: take everything, register, name the jobs
//	engine.go        decisions: no clock, no files, no goroutines
//	kernel_linux.go  the only system calls, behind a small interface
//	engine_test.go   stories in testdata/*.txt
//	server_test.go   the rest with a fake kernel
//
// Delete the line with only. For a service, write ipc/NAME/NAME.proto, run "make
// proto", add provides = "NAME" to daemon.toml, a server.go with one method per
// RPC (decode, ask the engine, let the kernel act, reply), and in setup
// NAME.Register(d.IPC, server); daemons/logd is the smallest that has one.
package main
