package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/beevik/ntp"

	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/network"
)

const (
	// enough answers: one that lies is outvoted, one that fails is made up for.
	enough = 4
	// maxTries bounds a round when most servers are silent.
	maxTries = 8

	answerTimeout = 2 * time.Second
	callTimeout   = 5 * time.Second
	// nameTimeout is for one question to one name server. maxServers of them are asked.
	nameTimeout = 2 * time.Second
	maxServers  = 4
)

var (
	errNoNameServer = errors.New("no name server is known yet")
	errNoSuchHost   = errors.New("no such host")
)

// world is where timed gets its servers and answers from.
type world struct {
	config        config.Client
	network       network.Client
	port, dnsPort string // other than 123 and 53 in tests only

	answered string // the name server that answered last: it is asked first
}

// ask asks all servers once. It tries each address once; the caller decides about time.
// When the file names no servers, those of DHCP are asked, and the default ones if none
// of them has a good answer.
func (w *world) ask(ctx context.Context) round {
	c, err := w.servers(ctx)
	if err != nil {
		return round{failure: err.Error()}
	}
	if !c.Standard {
		return w.askAll(ctx, c.Servers)
	}
	site := w.askAll(ctx, w.siteServers(ctx))
	if slices.ContainsFunc(site.samples, sample.good) {
		return site
	}
	r := w.askAll(ctx, c.Servers)
	r.samples = append(r.samples, site.samples...)
	r.slower = r.slower || site.slower
	return r
}

func (w *world) askAll(ctx context.Context, names []string) round {
	addresses, err := w.resolve(ctx, names)
	r := round{}
	if err != nil {
		r.failure = err.Error()
	}
	for i, a := range addresses {
		if len(r.samples) == enough || i == maxTries || ctx.Err() != nil {
			break
		}
		answer, err := query(net.JoinHostPort(a, w.port))
		if err != nil {
			r.failure = err.Error()
			r.slower = r.slower || errors.Is(err, errSlower)
			continue
		}
		answer.server = a
		r.samples = append(r.samples, answer)
	}
	return r
}

func (w *world) servers(ctx context.Context) (*config.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := w.config.GetTime(ctx, &config.GetTimeRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask for the time servers: %w", err)
	}
	return c, nil
}

// siteServers are the time servers that DHCP named; none when networkd does not answer.
func (w *world) siteServers(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := w.network.ListTimeServers(ctx, &network.ListTimeServersRequest{})
	if err != nil {
		return nil
	}
	return list.Addresses
}

// resolve returns the addresses of all names, the first of each name first, so
// that a round asks as many different servers as it can. Its error is of one name that
// has none; there may be addresses beside it.
func (w *world) resolve(ctx context.Context, names []string) ([]string, error) {
	var found [][]string
	var failure error
	for _, name := range names {
		if net.ParseIP(name) != nil {
			found = append(found, []string{name})
			continue
		}
		addresses, err := w.lookup(ctx, name)
		if err != nil {
			failure = fmt.Errorf("resolve %s: %w", name, err)
			continue
		}
		found = append(found, addresses)
	}
	return interleave(found), failure
}

// lookup asks the machine's name servers in turn, until one answers. That one is asked
// first the next time.
func (w *world) lookup(ctx context.Context, name string) ([]string, error) {
	servers, err := w.nameServers(ctx)
	if err != nil {
		return nil, err
	}
	for _, server := range servers {
		var addresses []string
		addresses, err = w.lookup1(ctx, server, name)
		if err == nil || errors.Is(err, errNoSuchHost) {
			w.answered = server
			return addresses, err
		}
		err = fmt.Errorf("name server %s: %w", server, err)
	}
	return nil, err
}

func (w *world) nameServers(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := w.network.ListResolvers(ctx, &network.ListResolversRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask for the name servers: %w", err)
	}
	if len(list.Addresses) == 0 {
		return nil, errNoNameServer
	}
	servers := slices.Clone(list.Addresses)
	if i := slices.Index(servers, w.answered); i > 0 {
		servers = slices.Insert(slices.Delete(servers, i, i+1), 0, w.answered)
	}
	return servers[:min(len(servers), maxServers)], nil
}

// lookup1 asks one name server. The resolver has no resolv.conf, so whatever address it
// asks for is this server.
func (w *world) lookup1(ctx context.Context, server, name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, proto, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, proto, net.JoinHostPort(server, w.dnsPort))
	}}
	// The last dot keeps the resolver from trying search domains.
	addresses, err := resolver.LookupHost(ctx, strings.TrimSuffix(name, ".")+".")
	var d *net.DNSError
	switch {
	case err == nil:
		return addresses, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no answer within %v", nameTimeout)
	case !errors.As(err, &d):
		return nil, err
	case d.IsTimeout:
		return nil, fmt.Errorf("no answer within %v", nameTimeout)
	case d.IsNotFound:
		return nil, errNoSuchHost
	}
	return nil, errors.New(d.Err) // without the name of a server that is not there
}

func interleave(lists [][]string) []string {
	var all []string
	for i := 0; ; i++ {
		before := len(all)
		for _, l := range lists {
			if i < len(l) {
				all = append(all, l[i])
			}
		}
		if len(all) == before {
			return all
		}
	}
}

var errSlower = errors.New("the server asks to be asked less often")

// query asks one server.
func query(address string) (sample, error) {
	r, err := ntp.QueryWithOptions(address, ntp.QueryOptions{Timeout: answerTimeout})
	if err != nil {
		return sample{}, fmt.Errorf("ask %s: %w", address, err)
	}
	if r.IsKissOfDeath() && r.KissCode == "RATE" {
		return sample{}, fmt.Errorf("ask %s: %w", address, errSlower)
	}
	if err := r.Validate(); err != nil {
		return sample{}, fmt.Errorf("ask %s: %w", address, err)
	}
	return sample{offset: r.ClockOffset, distance: r.RootDistance}, nil
}
