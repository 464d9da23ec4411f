package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/network"
)

// The promise: through the gateway a call takes at most twice as long (median)
// as a gRPC call over mutual TLS straight to the same handler. Compare:
//
//	go test -tags grpcnotrace -run - -bench . ./daemons/routerd

// BenchmarkGateway is gRPC over TLS to the gateway, ttrpc to the handler, and a
// line in a log that is thrown away.
func BenchmarkGateway(b *testing.B) {
	f := start(b)
	f.network.links = benchLinks
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	f.server.gateway.log = slog.New(slog.NewTextHandler(null, nil))
	c := f.dial(f.ca.client("bob", []string{"reader"}))
	measure(b, func() error {
		return c.Invoke(context.Background(), listLinks, &network.ListLinksRequest{}, new(network.ListLinksResponse))
	})
}

// BenchmarkDirect is gRPC over mutual TLS to the handler.
func BenchmarkDirect(b *testing.B) {
	f := start(b) // for its certificates; its gateway idles
	k := newKeeper(f.ca.issue("127.0.0.1"), time.Now, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err := k.obtain(b.Context()); err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(f.ca.cert)
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{k.held.Load().certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
	})))
	s.RegisterService(&grpc.ServiceDesc{ServiceName: network.Service, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "ListLinks",
		Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			request := new(network.ListLinksRequest)
			if err := decode(request); err != nil {
				return nil, err
			}
			return srv.(*fakeNetwork).ListLinks(ctx, request)
		},
	}}}, &fakeNetwork{links: benchLinks})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go s.Serve(l)
	defer s.Stop()
	f.address = l.Addr().String()
	c := f.dial(f.ca.client("bob", []string{"reader"}))
	measure(b, func() error {
		return c.Invoke(context.Background(), listLinks, &network.ListLinksRequest{}, new(network.ListLinksResponse))
	})
}

// BenchmarkTtrpcHop is ttrpc to the handler: what the gateway's inner half costs.
func BenchmarkTtrpcHop(b *testing.B) {
	d := startDaemons(b)
	d.network.links = benchLinks
	p := ipc.NewPeer("network", filepath.Join(d.dir, "network"))
	b.Cleanup(p.Close)
	c := network.NewClient(p)
	measure(b, func() error {
		_, err := c.ListLinks(context.Background(), &network.ListLinksRequest{})
		return err
	})
}

var benchLinks = []*network.Link{
	{Index: 1, Name: "lo", Kind: "loopback", Up: true, Carrier: true, MtuBytes: 65536},
	{Index: 2, Name: "eth0", Kind: "physical", Up: true, Carrier: true, Mac: "52:54:00:12:34:56", MtuBytes: 1500, Driver: "virtio_net", RxBytes: 1 << 40, TxBytes: 1 << 39},
}

// measure makes calls one after the other and reports the median.
func measure(b *testing.B, call func() error) {
	b.Helper()
	for range 100 { // connect, grow stacks
		if err := call(); err != nil {
			b.Fatal(err)
		}
	}
	took := make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		begin := time.Now()
		if err := call(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
