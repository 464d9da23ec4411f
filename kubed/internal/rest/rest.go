package rest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// connectionAge is well below the third of a day for which an old certificate is still
// good when its successor is there.
const connectionAge = 10 * time.Minute

// Client asks one server. Safe for use by many goroutines, which wait for each other.
type Client struct {
	Address string                      // host:port
	TLS     func() (*tls.Config, error) // asked for each connection; nil: none

	mu   sync.Mutex // guards what follows
	conn *connection
}

// Request is one question. It may reach the server twice.
type Request struct {
	Method, Path      string
	ContentType, Body string
}

// Answer is what the server said.
type Answer struct {
	Status int
	Body   []byte
}

// Get asks for a path.
func (c *Client) Get(ctx context.Context, path string) (Answer, error) {
	return c.Do(ctx, Request{Method: "GET", Path: path})
}

// Do asks, once more if a connection that was idle turns out to have been closed.
func (c *Client) Do(ctx context.Context, r Request) (Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil && time.Since(c.conn.made) > connectionAge {
		c.drop()
	}
	fresh := c.conn == nil
	a, err := c.once(ctx, r)
	if err != nil && !fresh && ctx.Err() == nil {
		a, err = c.once(ctx, r)
	}
	if err != nil {
		return a, fmt.Errorf("%s %s%s: %w", r.Method, c.Address, r.Path, plain(err))
	}
	return a, nil
}

func (c *Client) once(ctx context.Context, r Request) (Answer, error) {
	if c.conn == nil {
		conn, err := c.dial(ctx)
		if err != nil {
			return Answer{}, err
		}
		c.conn = conn
	}
	defer context.AfterFunc(ctx, c.conn.interrupt)()
	at, _ := ctx.Deadline()
	c.conn.SetDeadline(at) // none if ctx has none
	a, again, err := c.conn.ask(c.Address, r)
	if err != nil || !again || ctx.Err() != nil {
		c.drop()
	}
	return a, err
}

// Close gives the connection up; the next question makes another.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
}

func (c *Client) drop() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *Client) dial(ctx context.Context) (*connection, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return nil, err
	}
	if c.TLS != nil {
		config, err := c.TLS()
		if err != nil {
			conn.Close()
			return nil, err
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = secure
	}
	return &connection{Conn: conn, in: bufio.NewReaderSize(conn, 4096), made: time.Now()}, nil
}

// plain leaves out what the question names already.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// Line is the first line of an answer's body, for messages.
func (a Answer) Line() string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(a.Body)), "\n")
	if len(line) > 200 {
		line = line[:200] + "…"
	}
	return line
}
