package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/trust"
)

func TestCells(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{size(uint64(0)), "0B"},
		{size(uint64(1023)), "1023B"},
		{size(uint64(1024)), "1KiB"},
		{size(uint64(1536)), "1.5KiB"},
		{size(uint64(10 << 20)), "10MiB"},
		{size(uint64(1<<20 - 1)), "1MiB"},
		{size(^uint64(0)), "16EiB"},
		{span(0), "0ms"},
		{span(999 * time.Millisecond), "999ms"},
		{span(61 * time.Second), "1m1s"},
		{span(2 * time.Hour), "2h"},
		{span(76 * time.Hour), "3d4h"},
		{printable("a\x1b[31m\u202eb"), `a\x1b[31m\u202eb`},
		{printable("gr\u00fcn"), "gr\u00fcn"},
		{printableLine("a\tb\rc"), "a\tb\\rc"},
		{seconds(0), ""},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestCertificateStates(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name      string
		life, age time.Duration
		due, warn bool
	}{
		{"a day's, fresh", day, time.Hour, false, false},
		{"a day's, past two thirds", day, 17 * time.Hour, true, true},
		{"a year's, past two thirds", 365 * day, 300 * day, true, false},
		{"a year's, on its last day", 365 * day, 365*day - time.Hour, true, true},
		{"ended", day, 2 * day, true, true},
	} {
		got := stateAt(c.life, c.age)
		if got.due != c.due || got.warn != c.warn {
			t.Errorf("%s: due %v, warn %v", c.name, got.due, got.warn)
		}
	}
}

func stateAt(life, age time.Duration) state {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return stateOf(made.Add(life), life, made.Add(age))
}

// The certificates of a node, by the longest names that trustd gives, fit a terminal.
func TestCertificatesFitATerminal(t *testing.T) {
	answer := &trust.ListCertificatesResponse{Certificates: []*trust.Certificate{
		{Kind: "client", Subject: "system:kube-controller-manager", NotAfterUnix: epoch, Ca: "kubernetes", Receiver: "kube-controller-manager", Serial: strings.Repeat("f", 32)},
		{Kind: "client", Subject: "kube-apiserver-kubelet-client", Group: "dactyl:kubelet-clients", NotAfterUnix: epoch, Ca: "kubernetes", Receiver: "kube-apiserver"},
		{Kind: "server", Subject: "kube-apiserver", NotAfterUnix: epoch, Ca: "kubernetes", Names: []string{strings.Repeat("x", 200)}, Fingerprint: strings.Repeat("e", 64)},
	}}
	var b bytes.Buffer
	narrow := certificateTable(answer).narrowed()
	if err := narrow.write(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := len(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
