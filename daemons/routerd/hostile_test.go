package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"

	"github.com/dactyl-os/dactyl/ipc/network"
)

// The promise: stalling clients do not make an admin's calls slow. BenchmarkHostile measures calls of
// an admin at a steady pace, with the gateway idle and while 600 connections
// stall. Gateway and attackers are separate processes: this test binary again, with
// roleEnv set. Run:
//
//	go test -tags grpcnotrace -run - -bench Hostile -benchtime 2000x ./daemons/routerd

const (
	roleEnv = "DACTYL_HOSTILE" // server or attacker
	infoEnv = "DACTYL_HOSTILE_INFO"

	hostilePace = 50 // calls a second
	// turns is how often idle and hostile are measured in turns: a build machine is not the same from
	// one minute to another.
	turns = 4
	// attackerShare is how much of one processor the attackers may use.
	attackerShare = 0.1
)

// hostileInfo is what the gateway's process tells the others.
type hostileInfo struct {
	Address   string
	CA        []byte
	Key       []byte
	Pending   int
	Anonymous int
	Calls     int
}

func BenchmarkHostile(b *testing.B) {
	if b.N == 1 {
		return // the benchmark's first try
	}
	info := filepath.Join(b.TempDir(), "info")
	startRole(b, "server", info)
	f := &fixture{daemons: &daemons{t: b}}
	for f.ca == nil {
		if in := readInfo(info); in != nil {
			f.address, f.ca = in.Address, in.authority(b)
		}
		time.Sleep(10 * time.Millisecond)
	}
	c := f.dial(f.ca.client("ada", []string{"admin"}))
	for range 100 {
		if err := c.Invoke(b.Context(), listLinks, &network.ListLinksRequest{}, new(network.ListLinksResponse)); err != nil {
			b.Fatal(err)
		}
	}
	var idle, hostile []time.Duration
	var used, elapsed time.Duration
	b.ResetTimer()
	for range turns {
		idle = append(idle, pacedCalls(b, c, b.N/turns)...)
		attacker := startRole(b, "attacker", info)
		waitAttacked(b, info)
		begin := time.Now()
		before := processorTime(attacker.Process.Pid)
		hostile = append(hostile, pacedCalls(b, c, b.N/turns)...)
		used += processorTime(attacker.Process.Pid) - before
		elapsed += time.Since(begin)
		attacker.Process.Kill()
		attacker.Wait()
	}
	b.StopTimer()
	p99 := func(all []time.Duration) time.Duration {
		slices.Sort(all)
		return all[len(all)*99/100]
	}
	b.ReportMetric(float64(p99(idle).Microseconds()), "idle-p99-µs")
	b.ReportMetric(float64(p99(hostile).Microseconds()), "hostile-p99-µs")
	b.ReportMetric(float64(p99(hostile))/float64(p99(idle)), "hostile-p99-ratio")
	b.ReportMetric(100*float64(used)/float64(elapsed), "attackers-%-of-one-core")
}

// pacedCalls makes n calls at hostilePace, however long each takes.
func pacedCalls(b *testing.B, c *grpc.ClientConn, n int) []time.Duration {
	took := make([]time.Duration, n)
	var calls sync.WaitGroup
	begin := time.Now()
	for i := range n {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / hostilePace)))
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			defer cancel()
			begin := time.Now()
			if err := c.Invoke(ctx, listLinks, &network.ListLinksRequest{}, new(network.ListLinksResponse)); err != nil {
				b.Error(err)
			}
			took[i] = time.Since(begin)
		})
	}
	calls.Wait()
	return took
}

// startRole starts this test binary as another process, which ends with the benchmark.
func startRole(b *testing.B, role, info string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestHostileRole$", "-test.timeout", "0", "-test.v")
	cmd.Env = append(os.Environ(), roleEnv+"="+role, infoEnv+"="+info)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// waitAttacked waits until the gateway has as many anonymous connections and as many readers' calls as it
// takes, and handshakes that stall.
func waitAttacked(b *testing.B, info string) {
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		in := readInfo(info)
		if in != nil && in.Pending > 0 && in.Anonymous == maxAnonymous && in.Calls >= calls.all/2 {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("the attack has not come to its full size: %+v", in)
		}
	}
}

func readInfo(path string) *hostileInfo {
	text, err := os.ReadFile(path)
	in := new(hostileInfo)
	if err != nil || json.Unmarshal(text, in) != nil {
		return nil
	}
	return in
}

func (in *hostileInfo) authority(t testing.TB) *ca {
	cert, err := x509.ParseCertificate(in.CA)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParseECPrivateKey(in.Key)
	if err != nil {
		t.Fatal(err)
	}
	return &ca{t: t, key: key, cert: cert}
}

func processorTime(pid int) time.Duration {
	var stat struct{ user, system int64 }
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := cutLast(string(text), ") ")
	var skip string
	fmt.Sscan(rest, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &stat.user, &stat.system)
	const ticks = 100 // USER_HZ
	return time.Duration(stat.user+stat.system) * time.Second / ticks
}

func cutLast(s, separator string) (before, after string, found bool) {
	for i := len(s) - len(separator); i >= 0; i-- {
		if s[i:i+len(separator)] == separator {
			return s[:i], s[i+len(separator):], true
		}
	}
	return s, "", false
}

// TestHostileRole is the gateway, or the attackers, of BenchmarkHostile.
func TestHostileRole(t *testing.T) {
	switch os.Getenv(roleEnv) {
	case "server":
		hostileServer(t)
	case "attacker":
		in := readInfo(os.Getenv(infoEnv))
		attack(t, &fixture{daemons: &daemons{t: t}, address: in.Address, ca: in.authority(t)})
	default:
		t.Skip("a process of BenchmarkHostile")
	}
}

// hostileServer serves until it is killed, and reports how much it is attacked.
func hostileServer(t *testing.T) {
	f := startWithin(t, arriveWithin)
	f.network.links = benchLinks
	f.log.discard.Store(true)
	key, err := x509.MarshalECPrivateKey(f.ca.key)
	if err != nil {
		t.Fatal(err)
	}
	path := os.Getenv(infoEnv)
	g := f.server.gate
	for {
		g.mu.Lock()
		pending, anonymous := len(g.pending.conns), len(g.anonymous.conns)
		g.mu.Unlock()
		text, err := json.Marshal(hostileInfo{f.address, f.ca.cert.Raw, key, pending, anonymous, f.inUse().calls})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".new", text, 0o600); err != nil {
			return // the benchmark is over
		}
		os.Rename(path+".new", path)
		time.Sleep(100 * time.Millisecond)
	}
}

// attack keeps connections of all kinds open, and opens them again when they are closed, within
// attackerShare.
func attack(t *testing.T, f *fixture) {
	expired := f.ca.client("old", []string{"admin"}, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	early := f.ca.client("early", []string{"admin"}, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
	roleless := f.ca.client("rob", nil)
	var readers, operators []*tls.Certificate
	for i := range 4 {
		readers = append(readers, f.ca.client(fmt.Sprint("bob", i), []string{"reader"}))
		operators = append(operators, f.ca.client(fmt.Sprint("ole", i), []string{"operator"}))
	}
	hello := clientHello(t)
	begin := time.Now()
	streams := func(n int, methods ...string) func(*rawAttacker) {
		return func(r *rawAttacker) {
			for range n {
				r.open(methods[r.opened%len(methods)])
			}
			r.again(func() {
				waitForShare(begin)
				r.open(methods[r.opened%len(methods)])
			})
		}
	}
	silent := func(net.Conn) {}
	var kinds []func(context.Context, int)
	add := func(n int, kind func(context.Context, int)) {
		kinds = append(kinds, slices.Repeat([]func(context.Context, int){kind}, n)...)
	}
	add(100, f.rawAttack(silent))
	add(100, f.rawAttack(func(c net.Conn) { c.Write(hello[:len(hello)/2]) }))
	add(100, f.rawAttack(func(c net.Conn) { c.Write(hello) })) // the gateway computes and waits
	add(80, f.tlsAttack(nil, streams(2, claim)))
	add(40, f.tlsAttack(nil, streams(2, healthCheck, healthWatch)))
	add(40, f.tlsAttack(expired, streams(4, claim)))
	add(20, f.tlsAttack(early, streams(4, claim)))
	add(20, f.tlsAttack(roleless, streams(4, healthCheck)))
	for _, r := range readers {
		add(5, f.tlsAttack(r, streams(64, listLinks, reflect, healthCheck, claim)))
		add(10, f.tlsAttack(r, streams(32, readLog, healthWatch)))
	}
	for _, o := range operators {
		add(10, f.tlsAttack(o, func(r *rawAttacker) {
			stall := func() {
				waitForShare(begin)
				r.framer.WriteData(r.open(reboot), false, message(4<<20 - 64)[:10<<10])
			}
			stall()
			r.again(stall)
		}))
	}
	t.Logf("%d hostile connections", len(kinds))
	var jobs sync.WaitGroup
	for i, kind := range kinds {
		jobs.Go(func() {
			for t.Context().Err() == nil {
				kind(t.Context(), i)
				waitForShare(begin)
			}
		})
	}
	jobs.Wait()
}

// waitForShare waits until this process has used less than its share since begin.
func waitForShare(begin time.Time) {
	const burst = 200 * time.Millisecond
	for {
		var used syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &used)
		if time.Duration(used.Utime.Nano()+used.Stime.Nano()) < burst+time.Duration(attackerShare*float64(time.Since(begin))) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// rawAttack opens a connection, does something, and waits for its end.
func (f *fixture) rawAttack(do func(net.Conn)) func(context.Context, int) {
	return func(ctx context.Context, i int) {
		c, err := from(1+i).DialContext(ctx, "tcp", f.address)
		if err != nil {
			return
		}
		defer c.Close()
		do(c)
		io.Copy(io.Discard, c)
	}
}

// tlsAttack does the same after a handshake.
func (f *fixture) tlsAttack(certificate *tls.Certificate, do func(*rawAttacker)) func(context.Context, int) {
	config := f.clientConfig(certificate)
	config.ServerName = "127.0.0.1"
	return func(ctx context.Context, i int) {
		raw, err := from(1+i).DialContext(ctx, "tcp", f.address)
		if err != nil {
			return
		}
		c := tls.Client(raw, config)
		defer c.Close()
		r := &rawAttacker{framer: http2.NewFramer(c, c)}
		if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
			return
		}
		r.framer.WriteSettings()
		do(r)
	}
}

// rawAttacker opens streams and sends nothing on them.
type rawAttacker struct {
	framer *http2.Framer
	opened int
}

// again calls open whenever a stream has ended, until the connection ends.
func (r *rawAttacker) again(open func()) {
	for {
		frame, err := r.framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				open()
			}
		case *http2.RSTStreamFrame:
			if f.ErrCode == http2.ErrCodeRefusedStream {
				open()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				r.framer.WritePing(true, f.Data)
			}
		}
	}
}

// open opens a stream and returns its number.
func (r *rawAttacker) open(path string) uint32 {
	id := uint32(2*r.opened + 1)
	r.opened++
	var block headerBlock
	e := hpack.NewEncoder(&block)
	e.SetMaxDynamicTableSize(0)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", path}, {":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true})
	}
	r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true})
	return id
}

type headerBlock []byte

func (b *headerBlock) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}
