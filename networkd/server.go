package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
)

const (
	// quiet gathers changes in the kernel that come together, as when a pod is made.
	quiet = 50 * time.Millisecond
	// again is how soon to try what the kernel refused.
	again = 2 * time.Second
	// maxRounds of doing and looking: more would mean that the kernel does not keep
	// what it was told, and the next change or again continues.
	maxRounds = 3

	// patience is how long configd may be silent before the default is assumed.
	patience    = 5 * time.Second
	callTimeout = 2 * time.Second
	firstPoll   = time.Second
	lastPoll    = time.Minute
)

// peers are whom networkd calls.
type peers struct {
	config  config.Client
	machine machine.Client
}

type server struct {
	kernel kernel
	peers  peers
	log    *slog.Logger
	events chan event
	names  chan string // the latest name of the machine, to be told to PID 1

	mu     sync.Mutex // guards engine
	engine *engine
}

// event tells the engine something.
type event func(*engine, time.Time) []action

func newServer(k kernel, p peers, log *slog.Logger) *server {
	return &server{kernel: k, peers: p, log: log, events: make(chan event), names: make(chan string, 1), engine: newEngine(rand.Uint32)}
}

// decide is the one goroutine that tells the engine what happens and does what it says.
func (s *server) decide(ctx context.Context) error {
	if err := s.look(); err != nil {
		return err
	}
	var retry time.Time // when to look again after a failure
	for {
		timer := time.NewTimer(s.until(retry))
		var next event
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case next = <-s.events:
			timer.Stop()
		case <-timer.C:
			next = (*engine).tick
		}
		failed := s.tell(next)
		if !retry.IsZero() && !time.Now().Before(retry) {
			failed = errors.Join(failed, s.look())
			retry = time.Time{}
		}
		if failed != nil {
			s.log.Error("network", "error", failed.Error())
			retry = time.Now().Add(again)
		}
	}
}

// until is how long to wait for the engine's next moment or the given one.
func (s *server) until(t time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	t = earliest(t, s.engine.wake())
	if t.IsZero() {
		return time.Hour
	}
	return time.Until(t)
}

// tell tells the engine one thing and does what it says; then it shows it the
// kernel, until there is no difference left.
func (s *server) tell(e event) error {
	var failed error
	for range maxRounds {
		changed, err := s.perform(s.step(e))
		failed = errors.Join(failed, err)
		if !changed || err != nil {
			break
		}
		seen, err := s.kernel.observe(time.Now())
		if err != nil {
			return errors.Join(failed, err)
		}
		e = observed(seen)
	}
	return failed
}

func (s *server) look() error {
	seen, err := s.kernel.observe(time.Now())
	if err != nil {
		return err
	}
	return s.tell(observed(seen))
}

func observed(s snapshot) event {
	return func(e *engine, now time.Time) []action { return e.observe(now, s) }
}

func (s *server) step(e event) []action {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e(s.engine, time.Now())
}

// perform does actions in order. One that fails does not keep the next from being
// tried: a gateway that cannot be reached is no reason to leave out an address.
func (s *server) perform(all []action) (changed bool, failed error) {
	for _, a := range all {
		s.log.Debug("network", "do", a.String())
		var err error
		switch a := a.(type) {
		case setUp:
			err, changed = s.kernel.setUp(a.link), true
		case setLoose:
			err, changed = s.kernel.setLoose(a.link), true
		case setGroup:
			err, changed = s.kernel.setGroup(a.link, a.group), true
		case setMTU:
			s.log.Info("MTU set", "link", string(a.link.name), "mtu", a.mtu)
			err, changed = s.kernel.setMTU(a.link, a.mtu), true
		case note:
			s.log.Warn(a.text)
		case setAddress:
			s.log.Info("address set", "address", a.address.String())
			err, changed = s.kernel.setAddress(a.address, time.Now()), true
		case deleteAddress:
			s.log.Info("address deleted", "address", a.address.String())
			err, changed = s.kernel.deleteAddress(a.address), true
		case setRoute:
			err, changed = s.kernel.setRoute(a.route), true
		case deleteRoute:
			err, changed = s.kernel.deleteRoute(a.route), true
		case listen:
			err = s.kernel.listen(a.on)
		case send:
			// What cannot be sent is lost like a packet on the way: it is sent again in time.
			if err := s.kernel.send(a.link, a.request); err != nil {
				s.log.Warn("network", "error", err.Error())
			}
		case setFilter:
			if err = s.kernel.setFilter(a.filter); err == nil {
				s.log.Info("packet filter set", "filter", a.filter.String())
			}
			changed = true
		case setHostname:
			s.rename(a.name)
		default:
			panic(fmt.Sprintf("BUG: unknown action %T", a))
		}
		failed = errors.Join(failed, err)
	}
	return changed, failed
}

// put hands an event to decide.
func (s *server) put(ctx context.Context, e event) {
	select {
	case s.events <- e:
	case <-ctx.Done():
	}
}

// watch shows the engine the kernel whenever it changed.
func (s *server) watch(ctx context.Context) error {
	for {
		if err := s.kernel.changed(ctx); err != nil {
			return fmt.Errorf("watch the kernel: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(quiet):
		}
		seen, err := s.kernel.observe(time.Now())
		if err != nil {
			return err
		}
		s.put(ctx, observed(seen))
	}
}

// receive hands DHCP's answers on.
func (s *server) receive(ctx context.Context) error {
	for {
		on, a, err := s.kernel.receive(ctx)
		if err != nil {
			return err
		}
		s.put(ctx, func(e *engine, now time.Time) []action { return e.receive(now, on, a) })
	}
}

// follow asks configd for the network's part, soon again at first (its disks may
// be mounted late), then now and then.
func (s *server) follow(ctx context.Context) error {
	var last *config.Network // nil: it has not answered yet
	assumed := false
	began, wait := time.Now(), firstPoll/4
	for {
		c, err := s.fetch(ctx)
		switch {
		case err == nil && !proto.Equal(c, last):
			last, wait = c, firstPoll
			s.configure(ctx, settingsFrom(c, s.log))
		case err != nil && last == nil && !assumed && time.Since(began) >= patience:
			assumed, wait = true, firstPoll
			s.log.Warn("configd does not answer: DHCP is assumed", "error", err.Error())
			s.configure(ctx, settings{assumed: true})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if last != nil || assumed {
			wait = min(wait*2, lastPoll)
		}
	}
}

func (s *server) configure(ctx context.Context, c settings) {
	s.put(ctx, func(e *engine, now time.Time) []action { return e.configure(now, c) })
}

func (s *server) fetch(ctx context.Context) (*config.Network, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.peers.config.GetNetwork(ctx, &config.GetNetworkRequest{})
}

// settingsFrom reads what configd has checked; an entry that is not understood all
// the same is left out, so that the rest works.
func settingsFrom(c *config.Network, log *slog.Logger) settings {
	s := settings{hostname: c.Hostname}
	for _, i := range c.Interfaces {
		entry := iface{name: linkName(i.Name), dhcp: i.Dhcp, mtu: int(i.MtuBytes)}
		for _, text := range i.Addresses {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				log.Error("configuration", "link", i.Name, "error", err.Error())
				continue
			}
			entry.addresses = append(entry.addresses, p)
		}
		if i.Gateway != "" {
			a, err := netip.ParseAddr(i.Gateway)
			if err != nil {
				log.Error("configuration", "link", i.Name, "error", err.Error())
			}
			entry.gateway = a
		}
		s.interfaces = append(s.interfaces, entry)
	}
	for _, text := range c.Nameservers {
		if a, err := netip.ParseAddr(text); err == nil {
			s.nameservers = append(s.nameservers, a)
		}
	}
	for _, text := range c.Inside {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			log.Error("configuration", "error", err.Error())
			continue
		}
		s.inside = append(s.inside, p.Masked())
	}
	return s
}

// rename leaves the name for the goroutine that tells PID 1; a name that was not
// told yet is replaced.
func (s *server) rename(name string) {
	select {
	case <-s.names:
	default:
	}
	s.names <- name
}

// name tells PID 1 the machine's name until it has heard.
func (s *server) name(ctx context.Context) error {
	var name string
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case name = <-s.names:
		case <-retry:
		}
		retry = nil
		if err := s.name1(ctx, name); err != nil {
			s.log.Error("set the host name", "name", name, "error", err.Error())
			retry = time.After(again)
		}
	}
}

func (s *server) name1(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := s.peers.machine.SetHostname(ctx, &machine.SetHostnameRequest{Hostname: name})
	return err
}

// ListLinks implements network.Server.
func (s *server) ListLinks(context.Context, *network.ListLinksRequest) (*network.ListLinksResponse, error) {
	seen, err := s.kernel.observe(time.Now())
	if err != nil {
		return nil, internal(err)
	}
	answer := &network.ListLinksResponse{}
	for _, l := range seen.links {
		answer.Links = append(answer.Links, &network.Link{
			Index: int32(l.index), Name: string(l.name), Kind: l.kind, Up: l.up, Carrier: l.carrier, Mac: l.mac.String(),
			MtuBytes: int32(l.mtu), Driver: s.kernel.driver(l.name), RxBytes: l.rx, TxBytes: l.tx,
		})
	}
	return answer, nil
}

// ListAddresses implements network.Server.
func (s *server) ListAddresses(context.Context, *network.ListAddressesRequest) (*network.ListAddressesResponse, error) {
	now := time.Now()
	seen, err := s.kernel.observe(now)
	if err != nil {
		return nil, internal(err)
	}
	names := seen.names()
	answer := &network.ListAddressesResponse{}
	for _, a := range seen.addresses {
		m := &network.Address{Link: names[a.link], Address: a.prefix.String(), Scope: a.scope, Origin: string(a.origin)}
		if !a.until.IsZero() {
			m.ValidS = max(int64(a.until.Sub(now)/time.Second), 1)
		}
		answer.Addresses = append(answer.Addresses, m)
	}
	return answer, nil
}

// ListRoutes implements network.Server.
func (s *server) ListRoutes(context.Context, *network.ListRoutesRequest) (*network.ListRoutesResponse, error) {
	seen, err := s.kernel.observe(time.Now())
	if err != nil {
		return nil, internal(err)
	}
	names := seen.names()
	answer := &network.ListRoutesResponse{}
	for _, r := range seen.routes {
		answer.Routes = append(answer.Routes, &network.Route{
			Destination: r.destinationText(), Gateway: text(r.gateway), Link: names[r.link],
			Source: text(r.source), Metric: r.metric, Origin: string(r.origin),
		})
	}
	return answer, nil
}

// ListResolvers implements network.Server.
func (s *server) ListResolvers(context.Context, *network.ListResolversRequest) (*network.ListResolversResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &network.ListResolversResponse{}
	for _, a := range s.engine.resolvers() {
		answer.Addresses = append(answer.Addresses, a.String())
	}
	return answer, nil
}

// ListTimeServers implements network.Server.
func (s *server) ListTimeServers(context.Context, *network.ListTimeServersRequest) (*network.ListTimeServersResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &network.ListTimeServersResponse{}
	for _, a := range s.engine.timeServers() {
		answer.Addresses = append(answer.Addresses, a.String())
	}
	return answer, nil
}

func (s snapshot) names() map[linkIndex]string {
	all := map[linkIndex]string{}
	for _, l := range s.links {
		all[l.index] = string(l.name)
	}
	return all
}

// text is an address, or nothing for none.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// internal is for what only the kernel can get wrong.
func internal(err error) error { return status.Error(codes.Internal, err.Error()) }
