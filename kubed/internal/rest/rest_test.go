package rest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAnswers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/short":
			io.WriteString(w, "ok")
		case "/chunked":
			io.WriteString(w, strings.Repeat("a", 5000))
			w.(http.Flusher).Flush()
			io.WriteString(w, "b")
		case "/echo":
			io.WriteString(w, r.Method+" "+r.Header.Get("Content-Type")+" "+string(body))
		case "/refused":
			http.Error(w, "not you\nat all", http.StatusForbidden)
		case "/nothing":
			w.WriteHeader(http.StatusNoContent)
		case "/huge":
			w.Write(make([]byte, maxBody+1))
		}
	}))
	defer server.Close()
	conns := 0
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns++
		}
	}
	c := &Client{Address: server.Listener.Addr().String()}
	for _, q := range []struct {
		request Request
		status  int
		body    string
	}{
		{Request{Method: "GET", Path: "/short"}, 200, "ok"},
		{Request{Method: "GET", Path: "/chunked"}, 200, strings.Repeat("a", 5000) + "b"},
		{Request{Method: "PATCH", Path: "/echo", ContentType: "text/plain", Body: "hi"}, 200, "PATCH text/plain hi"},
		{Request{Method: "GET", Path: "/refused"}, 403, "not you\nat all\n"},
		{Request{Method: "GET", Path: "/nothing"}, 204, ""},
	} {
		a, err := c.Do(within(t), q.request)
		if err != nil || a.Status != q.status || string(a.Body) != q.body {
			t.Errorf("%v: %d %q %v", q.request, a.Status, a.Body, err)
		}
	}
	if a := (Answer{Body: []byte("not you\nat all\n")}); a.Line() != "not you" {
		t.Errorf("first line %q", a.Line())
	}
	if _, err := c.Get(within(t), "/huge"); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("a huge answer: %v", err)
	}
	if a, err := c.Get(within(t), "/short"); err != nil || a.Status != 200 {
		t.Errorf("after a huge answer: %v %v", a, err)
	}
	server.CloseClientConnections()
	if a, err := c.Get(within(t), "/short"); err != nil || a.Status != 200 {
		t.Errorf("after the server closed the connection: %v %v", a, err)
	}
	if conns > 3 {
		t.Errorf("%d connections", conns)
	}
	c.Close()
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// What no server of HTTP says is an error in words, and never a wait without end.
func TestOddServers(t *testing.T) {
	for said, want := range map[string]string{
		"":                     "the server closed the connection",
		"SSH-2.0-dropbear\r\n": "no answer of HTTP",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n":               "Content-Length",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n": "length of a chunk",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab":              "unexpected EOF",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 200):       "more than 100 headers",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 9000):          "longer than",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 4096))
			io.WriteString(c, said)
			c.Close()
		}()
		client := &Client{Address: l.Addr().String()}
		if _, err := client.Get(within(t), "/"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want …%s…", said, err, want)
		}
		l.Close()
	}
}

// A server that takes the question and never answers.
func TestDeadline(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (&Client{Address: l.Addr().String()}).Get(ctx, "/"); err == nil {
		t.Error("an answer of nobody")
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c := &Client{Address: server.Listener.Addr().String(), TLS: func() (*tls.Config, error) {
		return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}, nil
	}}
	if a, err := c.Get(within(t), "/"); err != nil || string(a.Body) != "ok" {
		t.Errorf("%v %v", a, err)
	}
	c = &Client{Address: server.Listener.Addr().String(), TLS: func() (*tls.Config, error) {
		return &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}, nil
	}}
	if _, err := c.Get(within(t), "/"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server of another CA: %v", err)
	}
}
