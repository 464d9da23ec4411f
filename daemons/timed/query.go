package main

import (
	"context"
	"errors"
	"fmt"
	"net"
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

	answerTimeout  = 2 * time.Second
	resolveTimeout = 5 * time.Second
	callTimeout    = 5 * time.Second
)

var errNoNameServer = errors.New("no name server is known yet")

// world is where timed gets its servers and answers from.
type world struct {
	config        config.Client
	network       network.Client
	port, dnsPort string // other than 123 and 53 in tests only
}

// ask asks all servers once. It tries each address once; the caller decides about time.
func (w world) ask(ctx context.Context) round {
	names, err := w.servers(ctx)
	if err != nil {
		return round{failure: err.Error()}
	}
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

func (w world) servers(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := w.config.GetTime(ctx, &config.GetTimeRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask for the time servers: %w", err)
	}
	return c.Servers, nil
}

// resolve returns the addresses of all names, the first of each name first, so
// that a round asks as many different servers as it can. Its error is of one name that
// has none; there may be addresses beside it.
func (w world) resolve(ctx context.Context, names []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	resolver := net.Resolver{PreferGo: true, Dial: w.dialer()}
	var found [][]string
	var failure error
	for _, name := range names {
		if net.ParseIP(name) != nil {
			found = append(found, []string{name})
			continue
		}
		// The last dot keeps the resolver from trying search domains.
		addresses, err := resolver.LookupHost(ctx, strings.TrimSuffix(name, ".")+".")
		if err != nil {
			failure = fmt.Errorf("resolve %s: %w", name, reason(err))
			continue
		}
		found = append(found, addresses)
	}
	return interleave(found), failure
}

// reason is the error without the resolver's wrapping, which names the name
// servers of a resolv.conf that is not there.
func reason(err error) error {
	var d *net.DNSError
	if errors.As(err, &d) {
		if d.IsNotFound {
			return errors.New("no such host")
		}
		if strings.Contains(d.Err, errNoNameServer.Error()) {
			return errNoNameServer
		}
		return errors.New(d.Err)
	}
	return err
}

// dialer connects the resolver to the machine's name servers in turn, whatever
// address it asks for.
func (w world) dialer() func(ctx context.Context, proto, _ string) (net.Conn, error) {
	turn := 0
	return func(ctx context.Context, proto, _ string) (net.Conn, error) {
		list, err := w.network.ListResolvers(ctx, &network.ListResolversRequest{})
		if err != nil {
			return nil, fmt.Errorf("ask for the name servers: %w", err)
		}
		if len(list.Addresses) == 0 {
			return nil, errNoNameServer
		}
		a := list.Addresses[turn%len(list.Addresses)]
		turn++
		var d net.Dialer
		return d.DialContext(ctx, proto, net.JoinHostPort(a, w.dnsPort))
	}
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
