//go:build !dev && !test

package main

import "github.com/dactyl-os/dactyl/ipc"

// registerDev registers nothing: a production image cannot replace a daemon.
func registerDev(ipc.Registrar, *machine) {}
