package main

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/dactyl-os/dactyl/ipc"
)

// session is a connection to the chosen machine, with its credentials.
type session struct {
	*conn
	machine machine
	store   store
}

// connect prepares a connection to the chosen machine.
func (c *call) connect() (*session, error) {
	m, s, err := c.options.machine()
	if err != nil {
		return nil, err
	}
	config, err := m.clientTLS()
	if err != nil {
		return nil, err
	}
	cc, err := dial(m.Address, config, c.timeout)
	if err != nil {
		return nil, err
	}
	return &session{cc, m, s}, nil
}

// withMachine does something with the chosen machine, and afterwards sees to the
// client certificate.
func (c *call) withMachine(do func(*session) error) error {
	s, err := c.connect()
	if err != nil {
		return err
	}
	defer s.close()
	err = do(s)
	if err == nil {
		c.keepValid(s)
	} else {
		c.warnOfEnd(s.machine)
	}
	return err
}

// call1 makes a command of one method without parameters and of what is done
// with its answer.
func call1[C, Q any, PQ interface {
	*Q
	proto.Message
}, A proto.Message](client func(ipc.Conn) C, method func(C, context.Context, PQ) (A, error), do func(*call, A) error) func(*call) error {
	return func(c *call) error {
		return c.withMachine(func(s *session) error {
			answer, err := method(client(s), c.ctx, PQ(new(Q)))
			if err != nil {
				return err
			}
			return do(c, answer)
		})
	}
}

// query makes a command that shows a method's answer.
func query[C, Q any, PQ interface {
	*Q
	proto.Message
}, A proto.Message](client func(ipc.Conn) C, method func(C, context.Context, PQ) (A, error), people func(A) table) func(*call) error {
	return call1(client, method, func(c *call, answer A) error {
		return c.show(answer, func() table { return people(answer) })
	})
}
