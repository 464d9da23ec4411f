package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/dactyl-os/dactyl/ipc/etcd"
	"github.com/dactyl-os/dactyl/test/alone"
)

const (
	// valueBytes is how large the values are that are written: about as large as
	// Kubernetes' objects are at the median.
	valueBytes = 1 << 10
	// manyClients write at the same time, each on a connection of its own.
	manyClients = 100
)

// databases compares etcdd, sealed and as the image has it, with the etcd of the same
// version as its command runs it, with its default flags: on the same disk, with the
// same kind of certificates. Both run all the time and are written to in short turns,
// so that whatever else the machine does happens to both; a turn's two rates make a
// ratio, and the median of those is the figure.
func databases(ctx context.Context, b *bench) ([]result, error) {
	dir, err := os.MkdirTemp("", "dactyl-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	l, err := newEtcdLab(ctx, dir)
	if err != nil {
		return nil, err
	}
	ours, err := l.ours(ctx, filepath.Join(dir, "ours"))
	if err != nil {
		return nil, err
	}
	defer ours.stop()
	stock, err := l.stock(ctx, filepath.Join(dir, "stock"))
	if err != nil {
		return nil, err
	}
	defer stock.stop()
	for _, s := range []*etcdServer{ours, stock} {
		if err := s.connect(ctx); err != nil {
			return nil, err
		}
		defer s.disconnect()
	}
	turns := b.times(30, 8)
	one, oneRatio, err1 := compete(ctx, ours, stock, 1, 100, turns)
	many, manyRatio, err2 := compete(ctx, ours, stock, manyClients, 2000, turns)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return []result{
		atLeast("etcdd against stock etcd, puts one after the other", oneRatio, 0.95, "×"),
		compared("etcdd, puts one after the other", one, "/s"),
		atLeast(fmt.Sprintf("etcdd against stock etcd, puts of %d clients", manyClients), manyRatio, 0.95, "×"),
		compared(fmt.Sprintf("etcdd, puts of %d clients", manyClients), many, "/s"),
	}, nil
}

// compete returns the median of ours' rates, and of the ratios of turns in which each
// wrote n values; who is first changes from turn to turn.
func compete(ctx context.Context, ours, stock *etcdServer, clients, n, turns int) (rate, ratio float64, err error) {
	var rates, ratios []float64
	for turn := range turns {
		order := []*etcdServer{ours, stock}
		if turn%2 == 1 {
			slices.Reverse(order)
		}
		got := map[*etcdServer]float64{}
		for _, s := range order {
			if got[s], err = s.puts(ctx, clients, n); err != nil {
				return 0, 0, err
			}
		}
		rates, ratios = append(rates, got[ours]), append(ratios, got[ours]/got[stock])
	}
	progress("%d clients: ratios from %.2f to %.2f", clients, slices.Min(ratios), slices.Max(ratios))
	return median(rates), median(ratios), nil
}

// etcdLab is both programs, and certificates for them.
type etcdLab struct {
	dir        string
	ca         *alone.Authority
	client     *tls.Config
	etcdd, etc string // programs
}

func newEtcdLab(ctx context.Context, dir string) (*etcdLab, error) {
	l := &etcdLab{dir: dir, etc: filepath.Join(dir, "etcd")}
	var err error
	if l.etcdd, err = alone.Build(ctx, "daemons/etcdd", dir); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", l.etc, "go.etcd.io/etcd/server/v3")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build etcd: %w\n%s", err, out)
	}
	if l.ca, err = alone.NewAuthority("etcd"); err != nil {
		return nil, err
	}
	cert, key, err := l.ca.Issue("bench", 24*time.Hour)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(l.ca.Certificate)
	l.client = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
	return l, nil
}

// etcdServer is one of them, running.
type etcdServer struct {
	name    string
	address string
	tls     *tls.Config
	stop    func()

	clients []*clientv3.Client
	written int
}

// connect makes all connections.
func (s *etcdServer) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for range manyClients {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.address}, TLS: s.tls.Clone(), Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		s.clients = append(s.clients, c)
		if _, err := c.Get(ctx, "warm"); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (s *etcdServer) disconnect() {
	for _, c := range s.clients {
		c.Close()
	}
}

// ours starts etcdd with its data below dir.
func (l *etcdLab) ours(ctx context.Context, dir string) (*etcdServer, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	m, err := alone.Load(ctx, ".", "etcdd")
	if err != nil {
		return nil, err
	}
	d, err := alone.Prepare(dir, l.etcdd, m, etcd.Service, []string{"GetStatus"})
	if err != nil {
		return nil, err
	}
	if err := l.ca.Write(d.Share("trustd"), "etcdd", "server.crt", "server.key", "client-ca.crt", 24*time.Hour); err != nil {
		return nil, err
	}
	if err := d.Start(); err != nil {
		return nil, err
	}
	return &etcdServer{name: "etcdd", address: d.Address("tcp:127.0.0.1:2379"), tls: l.client, stop: d.Close}, nil
}

// stock starts etcd with its data in dir.
func (l *etcdLab) stock(ctx context.Context, dir string) (*etcdServer, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if err := l.ca.Write(dir, "etcd", "crt", "key", "ca", 24*time.Hour); err != nil {
		return nil, err
	}
	address, err1 := freePort()
	peers, err2 := freePort()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var log strings.Builder
	cmd := exec.CommandContext(ctx, l.etc, "--data-dir", filepath.Join(dir, "data"),
		"--listen-client-urls", "https://"+address, "--advertise-client-urls", "https://"+address, "--listen-peer-urls", "http://"+peers,
		"--cert-file", filepath.Join(dir, "crt"), "--key-file", filepath.Join(dir, "key"), "--client-cert-auth", "--trusted-ca-file", filepath.Join(dir, "ca"))
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &etcdServer{name: "etcd", address: address, tls: l.client, stop: func() {
		cmd.Process.Kill()
		cmd.Wait()
	}}, nil
}

func freePort() (string, error) {
	s, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer s.Close()
	return s.Addr().String(), nil
}

// puts has that many clients write n new values in all and returns how many were
// written in a second.
func (s *etcdServer) puts(ctx context.Context, clients, n int) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	value := strings.Repeat("x", valueBytes)
	failed := make([]error, clients)
	var writing sync.WaitGroup
	begin := time.Now()
	for i, c := range s.clients[:clients] {
		writing.Go(func() {
			for j := i; j < n && failed[i] == nil; j += clients {
				_, failed[i] = c.Put(ctx, fmt.Sprintf("/registry/bench/%08d", s.written+j), value)
			}
		})
	}
	writing.Wait()
	took := time.Since(begin)
	s.written += n
	return float64(n) / took.Seconds(), errors.Join(failed...)
}

// atLeast is a result that must not be below limit.
func atLeast(what string, value, limit float64, unit string) result {
	return result{what, amount(value, unit), "≥ " + number(limit) + space(unit), value < limit}
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
