package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// certificateWait is how long etcdd waits for trustd's files. They are there
	// before kubed asks for etcdd; only one that was started by hand waits at all.
	certificateWait = 30 * time.Second
	// certificatePoll is how often it looks for them meanwhile.
	certificatePoll = 100 * time.Millisecond
)

// certificateFiles are what trustd writes, by rename, and renews while they are used.
var certificateFiles = [3]string{"server.crt", "server.key", "client-ca.crt"}

// certificate is what etcdd shows to clients, and whom it believes. The files are
// looked at whenever a client connects, so a renewal takes effect with the next
// connection and disturbs none.
type certificate struct {
	dir string

	mu      sync.Mutex     // guards what follows
	seen    [3]fs.FileInfo // of the files when they were last read
	config  *tls.Config    // of the last files that fitted together; nil: never yet
	expires time.Time
}

func newCertificate(dir string) *certificate { return &certificate{dir: dir} }

// wait returns when the files are there, or says what is missing.
func (c *certificate) wait(ctx context.Context) error {
	deadline := time.NewTimer(certificateWait)
	defer deadline.Stop()
	poll := time.NewTicker(certificatePoll)
	defer poll.Stop()
	for {
		_, err := c.current()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("wait %v for a certificate from trustd: %w", certificateWait, err)
		case <-poll.C:
		}
	}
}

// tls is the configuration of the server. It is asked anew for each connection.
func (c *certificate) tls() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current() },
	}
}

// notAfter is when the certificate that is shown expires; zero if there is none.
func (c *certificate) notAfter() time.Time {
	c.current()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expires
}

// current returns the configuration of the files as they are now. While they do not
// fit together, because trustd is just replacing them, the last good one stays.
func (c *certificate) current() (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := c.stat()
	if err == nil && !same(now, c.seen) {
		err = c.read(now)
	}
	if c.config == nil {
		return nil, err
	}
	return c.config, nil
}

func (c *certificate) stat() (infos [3]fs.FileInfo, err error) {
	for i, name := range certificateFiles {
		if infos[i], err = os.Stat(filepath.Join(c.dir, name)); err != nil {
			return infos, err
		}
	}
	return infos, nil
}

func same(a, b [3]fs.FileInfo) bool {
	for i := range a {
		if b[i] == nil || !os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}

// read makes a configuration of the files, which were seen as now says: one that
// changes meanwhile is read again the next time.
func (c *certificate) read(now [3]fs.FileInfo) error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(c.dir, certificateFiles[0]), filepath.Join(c.dir, certificateFiles[1]))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(c.dir, certificateFiles[2]))
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(text) {
		return errors.New(certificateFiles[2] + " holds no certificate")
	}
	c.config = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		ClientCAs:    clients,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		NextProtos:   []string{"h2"},
		// A ticket would let a client in whose certificate has meanwhile expired.
		SessionTicketsDisabled: true,
	}
	c.seen, c.expires = now, pair.Leaf.NotAfter
	return nil
}
