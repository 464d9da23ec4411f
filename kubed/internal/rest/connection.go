package rest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	maxBody    = 1 << 20
	maxHeaders = 100
)

var errTooLarge = errors.New("the answer is larger than 1 MiB")

type connection struct {
	net.Conn
	in   *bufio.Reader
	made time.Time
}

// interrupt makes whatever waits return.
func (c *connection) interrupt() { c.SetDeadline(time.Unix(1, 0)) }

// ask sends r and reads the answer. again says that the connection can be used for the
// next one.
func (c *connection) ask(host string, r Request) (a Answer, again bool, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kubed\r\nAccept: application/json, */*\r\n", r.Method, r.Path, host)
	if r.Body != "" {
		fmt.Fprintf(&b, "Content-Type: %s\r\nContent-Length: %d\r\n", r.ContentType, len(r.Body))
	}
	b.WriteString("\r\n" + r.Body)
	if _, err := io.WriteString(c, b.String()); err != nil {
		return a, false, err
	}
	for a.Status < 200 { // 1xx says that the answer is still to come
		var h headers
		if a.Status, h, err = c.head(); err != nil {
			return a, false, err
		}
		if a.Status >= 200 {
			a.Body, err = c.body(a.Status, h)
			again = !h.close && (h.chunked || h.length >= 0)
		}
	}
	return a, again, err
}

// headers are those that say how long the body is.
type headers struct {
	length  int64 // -1: not said
	chunked bool
	close   bool
}

func (c *connection) head() (code int, h headers, err error) {
	h.length = -1
	first, err := c.line()
	if err != nil {
		return 0, h, err
	}
	version, rest, _ := strings.Cut(first, " ")
	number, _, _ := strings.Cut(rest, " ")
	code, err = strconv.Atoi(number)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") || code < 100 || code > 599 {
		return 0, h, fmt.Errorf("no answer of HTTP: %q", first)
	}
	h.close = version == "HTTP/1.0"
	for range maxHeaders {
		line, err := c.line()
		if err != nil || line == "" {
			return code, h, err
		}
		if err := h.take(line); err != nil {
			return code, h, err
		}
	}
	return code, h, errors.New("more than 100 headers")
}

func (h *headers) take(line string) (err error) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch strings.ToLower(name) {
	case "content-length":
		if h.length, err = strconv.ParseInt(value, 10, 64); err != nil || h.length < 0 {
			return fmt.Errorf("header %q", line)
		}
	case "transfer-encoding":
		h.chunked = strings.EqualFold(value, "chunked")
	case "connection":
		h.close = h.close || strings.EqualFold(value, "close")
	}
	return nil
}

func (c *connection) body(code int, h headers) ([]byte, error) {
	switch {
	case code == 204 || code == 304:
		return nil, nil
	case h.chunked:
		return c.chunks()
	case h.length > maxBody:
		return nil, errTooLarge
	case h.length >= 0:
		b := make([]byte, h.length)
		_, err := io.ReadFull(c.in, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(c.in, maxBody+1))
	if len(b) > maxBody {
		return nil, errTooLarge
	}
	return b, err
}

func (c *connection) chunks() ([]byte, error) {
	var all []byte
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(size, 16, 31)
		if err != nil {
			return nil, fmt.Errorf("length of a chunk: %q", line)
		}
		if n == 0 {
			return all, c.trailers()
		}
		if len(all)+int(n) > maxBody {
			return nil, errTooLarge
		}
		at := len(all)
		all = append(all, make([]byte, n)...)
		if _, err := io.ReadFull(c.in, all[at:]); err != nil {
			return nil, err
		}
		if _, err := c.line(); err != nil {
			return nil, err
		}
	}
}

func (c *connection) trailers() error {
	for range maxHeaders {
		if line, err := c.line(); err != nil || line == "" {
			return err
		}
	}
	return errors.New("more than 100 trailers")
}

// line reads one; the reader's buffer is its limit.
func (c *connection) line() (string, error) {
	b, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("a line longer than %d bytes", c.in.Size())
	}
	if errors.Is(err, io.EOF) {
		return "", errors.New("the server closed the connection")
	}
	return strings.TrimRight(string(b), "\r\n"), err
}
