package main

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the engine does into testdata/*.txt: read the difference before you keep it")

// TestStories plays testdata/*.txt. Each file is a story: a line "t=TIME EVENT" is
// followed by what the engine does about it, a line "-> ACTION" each. What the
// engine does by itself before the next event carries its own time. A kernel that does
// as it is told stands behind it.
//
// Events:
//
//	config [hostname=H] [dns=A,B] [inside=NETWORK,NETWORK] [LINK=dhcp|none|ADDRESS,ADDRESS[,via=GATEWAY][,mtu=N]]… [assumed]
//	link INDEX NAME KIND [down] [nocarrier] [usb] [mac=N]    a link appears, or changes
//	gone NAME
//	has NAME ADDRESS ORIGIN [for TIME]           the kernel has an address already
//	has NAME default via GATEWAY ORIGIN          and a route
//	loses NAME ADDRESS                           somebody deletes an address
//	offer|ack|nak NAME [ADDRESS] from SERVER [lease=T] [router=A] [route=NETWORK:A] [dns=A,B] [ntp=A,B] [mtu=N]
//	resolvers                                    shows the name servers
//	timeservers                                  shows DHCP's time servers
//	wait                                         nothing; time goes on
//	restart                                      a new process, which knows nothing
//	look                                         the engine is shown the kernel
func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no stories", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(script))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(script) {
				t.Errorf("the story goes otherwise:\n%s", firstDifference(got, string(script)))
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\ngot  %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// story is a machine while its story is told.
type story struct {
	*testing.T
	engine *engine
	kernel snapshot
	start  time.Time
	now    time.Time
	xid    uint32
	out    strings.Builder
}

func play(t *testing.T, script string) string {
	start := time.Unix(1_000_000, 0)
	s := &story{T: t, start: start, now: start}
	s.restart()
	for line := range strings.Lines(script) {
		if strings.HasPrefix(strings.TrimSpace(line), "->") {
			continue
		}
		if at, what, ok := cutTime(line); ok {
			s.until(s.start.Add(at))
			s.out.WriteString(line)
			s.event(strings.Fields(what))
			continue
		}
		s.out.WriteString(line)
	}
	return s.out.String()
}

func cutTime(line string) (time.Duration, string, bool) {
	rest, ok := strings.CutPrefix(line, "t=")
	if !ok {
		return 0, "", false
	}
	at, what, _ := strings.Cut(rest, " ")
	d, err := time.ParseDuration(at)
	return d, what, err == nil
}

// restart is another process: only the kernel remembers.
func (s *story) restart() {
	s.kernel.filter = nil                                  // there is one, and it is not this process's
	s.engine = newEngine(func() uint32 { return 1 << 31 }) // the middle: nothing is spread
}

// until lets the engine do what is due before then.
func (s *story) until(then time.Time) {
	for range 1000 {
		next := s.engine.wake()
		if next.IsZero() || next.After(then) {
			s.now = then
			return
		}
		if next.Before(s.now) {
			next = s.now
		}
		s.now = next
		s.act((*engine).tick, fmt.Sprintf("t=%v ", s.now.Sub(s.start)))
	}
	s.Fatal("the engine does not come to rest")
}

// act tells the engine something, does what it says, and shows it the result.
func (s *story) act(e event, at string) {
	for range maxRounds {
		all := e(s.engine, s.now)
		for _, a := range all {
			fmt.Fprintf(&s.out, "        -> %s%s\n", at, s.pretty(a))
			s.kernel.obey(a)
			if sent, ok := a.(send); ok {
				s.xid = sent.request.xid
			}
		}
		if len(all) == 0 {
			return
		}
		e = observed(s.kernelNow())
	}
	if left := e(s.engine, s.now); len(left) > 0 {
		s.Errorf("the engine does not come to rest: %v", left)
	}
}

// kernelNow is the kernel as it shows itself: without addresses that have ended.
func (s *story) kernelNow() snapshot {
	s.kernel.addresses = slices.DeleteFunc(s.kernel.addresses, func(a address) bool {
		return !a.until.IsZero() && !s.now.Before(a.until)
	})
	s.kernel.uptime = s.now.Sub(s.start)
	return s.kernel.clone()
}

// obey is the kernel's part.
func (k *snapshot) obey(a action) {
	switch a := a.(type) {
	case setUp:
		n := slices.IndexFunc(k.links, func(l link) bool { return l.index == a.link.index })
		k.links[n].up = true
	case setLoose:
		n := slices.IndexFunc(k.links, func(l link) bool { return l.index == a.link.index })
		k.links[n].loose = true
	case setGroup:
		n := slices.IndexFunc(k.links, func(l link) bool { return l.index == a.link.index })
		k.links[n].group = a.group
	case setMTU:
		n := slices.IndexFunc(k.links, func(l link) bool { return l.index == a.link.index })
		k.links[n].mtu = a.mtu
	case setAddress:
		k.addresses = slices.DeleteFunc(k.addresses, func(b address) bool { return b.link == a.address.link && b.prefix == a.address.prefix })
		k.addresses = append(k.addresses, a.address)
	case deleteAddress:
		k.addresses = slices.DeleteFunc(k.addresses, a.address.same)
		k.routes = slices.DeleteFunc(k.routes, func(r route) bool { return r.source == a.address.prefix.Addr() })
	case setRoute:
		k.routes = slices.DeleteFunc(k.routes, a.route.replacedBy)
		k.routes = append(k.routes, a.route)
	case deleteRoute:
		k.routes = slices.DeleteFunc(k.routes, a.route.replacedBy)
	case setFilter:
		k.filter = &a.filter
	}
}

func (k *snapshot) clone() snapshot {
	return snapshot{slices.Clone(k.links), slices.Clone(k.addresses), slices.Clone(k.routes), k.uptime, k.filter}
}

func (s *story) named(name string) *link {
	n := slices.IndexFunc(s.kernel.links, func(l link) bool { return string(l.name) == name })
	if n < 0 {
		s.Fatalf("no link %s", name)
	}
	return &s.kernel.links[n]
}

// pretty names links and leaves out what is the same in every story.
func (s *story) pretty(a action) string {
	text := a.String()
	for _, l := range s.kernel.links {
		text = strings.ReplaceAll(text+" ", fmt.Sprintf(" on %d ", l.index), fmt.Sprintf(" on %s ", l.name))
		text = strings.TrimSuffix(strings.ReplaceAll(text, fmt.Sprintf(" on %d, ", l.index), fmt.Sprintf(" on %s, ", l.name)), " ")
	}
	if set, ok := a.(setAddress); ok && !set.address.until.IsZero() {
		text += " for " + set.address.until.Sub(s.now).String()
	}
	return text
}

func (s *story) event(words []string) {
	kind, rest := words[0], words[1:]
	switch kind {
	case "config":
		c := s.config(rest)
		s.act(func(e *engine, now time.Time) []action { return e.configure(now, c) }, "")
	case "link":
		s.appear(rest)
		s.look()
	case "gone":
		i := s.named(rest[0]).index
		s.kernel.links = slices.DeleteFunc(s.kernel.links, func(l link) bool { return l.index == i })
		s.kernel.addresses = slices.DeleteFunc(s.kernel.addresses, func(a address) bool { return a.link == i })
		s.kernel.routes = slices.DeleteFunc(s.kernel.routes, func(r route) bool { return r.link == i })
		s.look()
	case "has":
		s.has(rest)
	case "loses":
		l, p := s.named(rest[0]), netip.MustParsePrefix(rest[1])
		s.kernel.addresses = slices.DeleteFunc(s.kernel.addresses, func(a address) bool { return a.link == l.index && a.prefix == p })
		s.kernel.routes = slices.DeleteFunc(s.kernel.routes, func(r route) bool { return r.source == p.Addr() })
		s.look()
	case "offer", "ack", "nak":
		a, on := s.answer(kind, rest), s.named(rest[0]).index
		s.act(func(e *engine, now time.Time) []action { return e.receive(now, on, a) }, "")
	case "resolvers":
		fmt.Fprintf(&s.out, "        -> %v\n", s.engine.resolvers())
	case "timeservers":
		fmt.Fprintf(&s.out, "        -> %v\n", s.engine.timeServers())
	case "wait":
	case "restart":
		s.restart()
	case "look":
		s.look()
	default:
		s.Fatalf("unknown event %q", kind)
	}
}

func (s *story) look() { s.act(observed(s.kernelNow()), "") }

func (s *story) appear(words []string) {
	index, err := strconv.Atoi(words[0])
	if err != nil {
		s.Fatal(err)
	}
	l := link{index: linkIndex(index), name: linkName(words[1]), kind: words[2], mac: mac{0x52, 0x54, 0, 0, 0, byte(index)}}
	l.up = !slices.Contains(words, "down")
	l.carrier = !slices.Contains(words, "nocarrier")
	l.usb, l.mtu, l.maxMTU = slices.Contains(words, "usb"), 1500, 9000
	for _, o := range s.kernel.links {
		if o.index == l.index {
			l.group, l.mtu = o.group, o.mtu
		}
	}
	for _, w := range words {
		if n, ok := strings.CutPrefix(w, "mac="); ok {
			l.mac[5] = n[0] - '0'
		}
	}
	s.kernel.links = slices.DeleteFunc(s.kernel.links, func(o link) bool { return o.index == l.index })
	s.kernel.links = append(s.kernel.links, l)
	slices.SortFunc(s.kernel.links, func(a, b link) int { return int(a.index - b.index) })
}

func (s *story) has(words []string) {
	l := s.named(words[0])
	if words[1] == "default" {
		h := hop{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(words[3])}
		s.kernel.routes = append(s.kernel.routes, routeOf(l.index, h, origin(words[4]), s.kernel.addresses))
		return
	}
	a := address{link: l.index, prefix: netip.MustParsePrefix(words[1]), origin: origin(words[2])}
	if len(words) > 4 {
		a.until = s.now.Add(s.duration(words[4]))
	}
	s.kernel.addresses = append(s.kernel.addresses, a)
}

func (s *story) config(words []string) settings {
	var c settings
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "assumed":
			c.assumed = true
		case "hostname":
			c.hostname = value
		case "dns":
			c.nameservers = addrs(value)
		case "inside":
			for p := range strings.SplitSeq(value, ",") {
				c.inside = append(c.inside, netip.MustParsePrefix(p))
			}
		default:
			c.interfaces = append(c.interfaces, ifaceOf(key, value))
		}
	}
	return c
}

func ifaceOf(name, value string) iface {
	i := iface{name: linkName(name), dhcp: value == "dhcp"}
	if i.dhcp || value == "none" {
		return i
	}
	for part := range strings.SplitSeq(value, ",") {
		if via, ok := strings.CutPrefix(part, "via="); ok {
			i.gateway = netip.MustParseAddr(via)
		} else if mtu, ok := strings.CutPrefix(part, "mtu="); ok {
			i.mtu, _ = strconv.Atoi(mtu)
		} else if part == "dhcp" {
			i.dhcp = true
		} else {
			i.addresses = append(i.addresses, netip.MustParsePrefix(part))
		}
	}
	return i
}

func addrs(list string) []netip.Addr {
	var all []netip.Addr
	for a := range strings.SplitSeq(list, ",") {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func (s *story) answer(kind string, words []string) answer {
	a := answer{kind: messageKind(strings.ToUpper(kind)), xid: s.xid, mac: s.named(words[0]).mac}
	for i, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "lease":
			a.lease = s.duration(value)
			if value == "forever" {
				a.lease = forever
			}
		case "router":
			a.hops = []hop{{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(value)}}
		case "route":
			to, via, _ := strings.Cut(value, ":")
			a.hops = append(a.hops, hop{netip.MustParsePrefix(to), netip.MustParseAddr(via)})
		case "dns":
			a.nameservers = addrs(value)
		case "ntp":
			a.timeServers = addrs(value)
		case "mtu":
			n, err := strconv.Atoi(value)
			if err != nil {
				s.Fatal(err)
			}
			a.mtu = n
		case "xid":
			a.xid = 7
		case "from":
			a.server = netip.MustParseAddr(words[i+2])
		default:
			if p, err := netip.ParsePrefix(w); err == nil {
				a.address = p
			}
		}
	}
	return a
}

func (s *story) duration(text string) time.Duration {
	if text == "forever" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		s.Fatal(err)
	}
	return d
}
