package main

import (
	"bytes"
	"crypto/sha256"
	"os"

	"github.com/dactyl-os/dactyl/ipc/dev"
)

// uploadChunk is the largest piece that the machine takes.
const uploadChunk = 1 << 20

func replaceDaemon(c *call) error {
	name, file := c.args[0], c.args[1]
	binary, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(binary, []byte("\x7fELF")) {
		return fail(exitUsage, "%s is not an ELF program", file)
	}
	return c.withMachine(func(s *session) error {
		answer, err := c.upload(s, name, binary)
		if err != nil {
			return err
		}
		return c.show(answer, func() table {
			return table{header: []string{"NAME", "PID"}, rows: [][]string{{name, decimal(answer.Pid)}}}
		})
	})
}

func (c *call) upload(s *session, name string, binary []byte) (*dev.ReplaceDaemonResponse, error) {
	up, err := dev.NewClient(s).ReplaceDaemon(c.ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(binary)
	next := &dev.ReplaceDaemonRequest{Name: name, Sha256: sum[:]}
	bar := c.progress("sending "+name, int64(len(binary)))
	for sent := 0; sent < len(binary); next = new(dev.ReplaceDaemonRequest) {
		next.Chunk = binary[sent:min(sent+uploadChunk, len(binary))]
		if err := up.Send(next); err != nil {
			return nil, err
		}
		sent += len(next.Chunk)
		bar(int64(len(next.Chunk)))
	}
	return up.CloseAndReceive()
}

func restoreDaemon(c *call) error {
	return c.withMachine(func(s *session) error {
		answer, err := dev.NewClient(s).RestoreDaemon(c.ctx, &dev.RestoreDaemonRequest{Name: c.args[0]})
		if err != nil {
			return err
		}
		return c.show(answer, func() table {
			return table{header: []string{"NAME", "PID"}, rows: [][]string{{c.args[0], decimal(answer.Pid)}}}
		})
	})
}
