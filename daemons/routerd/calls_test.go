//lint:file-ignore SA1019 reflection v1alpha is deprecated; older clients speak it, so it is served and tested

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionalphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/dev"
	"github.com/dactyl-os/dactyl/ipc/log"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
)

// Answers, errors, details and deadlines arrive as the daemon gave them.
func TestUnary(t *testing.T) {
	f := start(t)
	c := f.dial(f.ca.client("ada", []string{"admin"}))
	f.network.links = []*network.Link{{Index: 1, Name: "lo"}, {Index: 2, Name: "eth0"}}
	got := new(network.ListLinksResponse)
	if err := c.Invoke(t.Context(), listLinks, &network.ListLinksRequest{}, got); err != nil || len(got.Links) != 2 || got.Links[1].Name != "eth0" {
		t.Errorf("got %v, %v", got, err)
	}

	err := c.Invoke(t.Context(), restartDaemon, &machine.RestartDaemonRequest{Name: "nobody"}, new(machine.RestartDaemonResponse))
	details := status.Convert(err).Details()
	if status.Code(err) != codes.NotFound || len(details) != 1 || !proto.Equal(details[0].(proto.Message), &machine.RestartDaemonRequest{Name: "nobody"}) {
		t.Errorf("error %v with details %v", err, details)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Invoke(ctx, listRoutes, &network.ListRoutesRequest{}, new(network.ListRoutesResponse)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call that is not answered in time: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := c.Invoke(ctx, listRoutes, &network.ListRoutesRequest{}, new(network.ListRoutesResponse)); status.Code(err) != codes.Canceled {
		t.Errorf("a call that is cancelled: %v", err)
	}
}

func TestServerStream(t *testing.T) {
	f := start(t)
	c := f.dial(f.ca.client("bob", []string{"reader"}))
	read := func(ctx context.Context, r *log.ReadLogRequest) (int, error) {
		s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, readLog)
		if err != nil {
			return 0, err
		}
		if err := s.SendMsg(r); err != nil {
			return 0, err
		}
		s.CloseSend()
		for n := 0; ; n++ {
			m := new(log.Line)
			if err := s.RecvMsg(m); err != nil {
				return n, err
			}
			if len(m.Text) != n {
				t.Errorf("line %d is %q", n, m.Text)
			}
		}
	}
	if n, err := read(t.Context(), &log.ReadLogRequest{Daemon: "networkd"}); n != 100 || err != io.EOF {
		t.Errorf("%d lines, %v", n, err)
	}
	if n, err := read(t.Context(), &log.ReadLogRequest{Daemon: "empty"}); n != 0 || err != io.EOF {
		t.Errorf("%d lines, %v", n, err)
	}
	if n, err := read(t.Context(), &log.ReadLogRequest{Daemon: "nobody"}); n != 0 || status.Code(err) != codes.NotFound {
		t.Errorf("%d lines, %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if n, err := read(ctx, &log.ReadLogRequest{Daemon: "networkd", Follow: true}); n != 100 || status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%d lines, %v", n, err)
	}
	time.AfterFunc(200*time.Millisecond, func() { stop(f.server) })
	if n, err := read(t.Context(), &log.ReadLogRequest{Daemon: "networkd", Follow: true}); n != 100 || status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "call again") {
		t.Errorf("while the gateway is replaced: %d lines, %v", n, err)
	}
}

func TestClientStream(t *testing.T) {
	f := start(t)
	c := f.dial(f.ca.client("ada", []string{"admin"}))
	upload := func(name string, chunks int) (int32, error) {
		s, err := c.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, replaceDaemon)
		if err != nil {
			return 0, err
		}
		for i := range chunks {
			m := &dev.ReplaceDaemonRequest{Chunk: make([]byte, 1<<20)}
			if i == 0 {
				m.Name = name
			}
			if err := s.SendMsg(m); err == io.EOF {
				break
			} else if err != nil {
				return 0, err
			}
		}
		s.CloseSend()
		answer := new(dev.ReplaceDaemonResponse)
		err = s.RecvMsg(answer)
		return answer.Pid, err
	}
	if n, err := upload("networkd", 20); n != 20<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := upload("networkd", 0); n != 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := upload("early", 20); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a daemon that has enough: %v", err)
	}
}

// Every call is a line.
func TestLog(t *testing.T) {
	f := start(t)
	f.dial(f.ca.client("bob", []string{"reader"})).Invoke(t.Context(), reboot, &emptypb.Empty{}, &emptypb.Empty{})
	for _, part := range []string{"caller=bob", "role=reader", "from=127.0.0.1:", "method=" + reboot, "status=PermissionDenied", "took="} {
		if !strings.Contains(f.log.String(), part) {
			t.Errorf("%s is not in the log:\n%s", part, f.log)
		}
	}
}

func TestHealth(t *testing.T) {
	f := start(t)
	h := healthpb.NewHealthClient(f.dial(nil))
	if r, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health is %v, %v", r, err)
	}
	if r, err := h.List(t.Context(), &healthpb.HealthListRequest{}); err != nil || r.Statuses[""].GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health is %v, %v", r, err)
	}
	if _, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "x"}); status.Code(err) != codes.NotFound {
		t.Errorf("health of an unknown service: %v", err)
	}
	w, err := h.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := w.Recv(); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health is %v, %v", r, err)
	}
}

// Reflection tells a reader what can be called, and its types; an anonymous client nothing.
func TestReflection(t *testing.T) {
	f := start(t)
	want := []string{"dactyl.dev.v1.Dev", "dactyl.log.v1.Log", "dactyl.machine.v1.Machine", "dactyl.network.v1.Network", "dactyl.trust.v1.Trust", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
	c := f.dial(f.ca.client("bob", []string{"reader"}))
	s, err := reflectionpb.NewServerReflectionClient(c).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		t.Helper()
		if err := s.Send(r); err != nil {
			t.Fatal(err)
		}
		got, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	var got []string
	for _, one := range ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().GetService() {
		got = append(got, one.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("services are %q, want %q", got, want)
	}
	for _, symbol := range want[:5] {
		r := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
		if len(r.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
			t.Errorf("%s: %v", symbol, r)
		}
	}
	s.CloseSend()

	alpha, err := reflectionalphapb.NewServerReflectionClient(c).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	alpha.Send(&reflectionalphapb.ServerReflectionRequest{MessageRequest: &reflectionalphapb.ServerReflectionRequest_ListServices{}})
	if r, err := alpha.Recv(); err != nil || len(r.GetListServicesResponse().GetService()) != len(want) {
		t.Errorf("v1alpha: %v, %v", r, err)
	}
	alpha.CloseSend()

	anonymous, err := reflectionpb.NewServerReflectionClient(f.dial(nil)).ServerReflectionInfo(t.Context())
	if err == nil {
		_, err = anonymous.Recv()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("an anonymous client: %v", err)
	}
}

// Messages of every size survive unread.
func TestCodec(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 1 << 20} {
		want := make([]byte, n)
		rand.Read(want)
		b, err := codec{}.Marshal(&frame{want})
		if err != nil {
			t.Fatal(err)
		}
		var got frame
		if err := (codec{}).Unmarshal(b, &got); err != nil || !bytes.Equal(got.b, want) {
			t.Errorf("%d bytes: %v", n, err)
		}
		m := ipc.Raw(got.b)
		if again, err := proto.Marshal(m); err != nil || !bytes.Equal(again, want) {
			t.Errorf("%d bytes through ipc: %v", n, err)
		}
	}
	if _, err := (codec{}).Marshal(fmt.Errorf("x")); err == nil {
		t.Error("encodes anything")
	}
}
