package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/words"
)

type server struct {
	files files
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	looked bool
	seen   [2]stamp
	now    verdict
}

func newServer(f files, log *slog.Logger) *server {
	return &server{files: f, log: log}
}

// read reads the files before anybody asks, so that the log tells at boot what is
// in force and what was refused.
func (s *server) read(context.Context) error {
	s.current()
	return nil
}

// current returns what is in force, read anew if a file has changed.
func (s *server) current() verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.files.stamps()
	if s.looked && seen == s.seen {
		return s.now
	}
	s.now = decide(contentOf(s.files.boot), contentOf(s.files.kept))
	s.log.Info("configuration", "source", s.now.source)
	if s.now.problem != nil {
		s.log.Error("configuration not taken", "problem", s.now.problem.Error())
	}
	if s.now.keep {
		// It is in force all the same: a full or missing disk is no reason to ignore it.
		if err := s.files.keep(s.now.yaml); err != nil {
			s.log.Error("keep the configuration", "path", s.files.kept, "error", err.Error())
		}
		seen[1] = stampOf(s.files.kept)
	}
	s.looked, s.seen = true, seen
	return s.now
}

func contentOf(path string) content {
	data, err := read(path)
	return content{path, data, err}
}

// GetConfig implements config.Server.
func (s *server) GetConfig(context.Context, *config.GetConfigRequest) (*config.GetConfigResponse, error) {
	v := s.current()
	answer := &config.GetConfigResponse{Yaml: string(v.yaml), Source: string(v.source)}
	if v.problem != nil {
		answer.Error = v.problem.Error()
	}
	return answer, nil
}

// GetNetwork implements config.Server.
func (s *server) GetNetwork(context.Context, *config.GetNetworkRequest) (*config.Network, error) {
	v := s.current()
	answer := &config.Network{Hostname: v.hostname}
	for _, i := range v.interfaces {
		answer.Interfaces = append(answer.Interfaces, i.message())
	}
	for _, a := range v.nameservers {
		answer.Nameservers = append(answer.Nameservers, a.String())
	}
	if k := v.kubernetes; k != nil {
		answer.Inside = []string{k.podNetwork.String(), k.serviceNetwork.String()}
	}
	return answer, nil
}

func (i iface) message() *config.Interface {
	m := &config.Interface{Name: i.name, Dhcp: i.dhcp, MtuBytes: int32(i.mtu)}
	for _, a := range i.addresses {
		m.Addresses = append(m.Addresses, a.String())
	}
	if i.gateway.IsValid() {
		m.Gateway = i.gateway.String()
	}
	return m
}

// GetTime implements config.Server.
func (s *server) GetTime(context.Context, *config.GetTimeRequest) (*config.Time, error) {
	v := s.current()
	return &config.Time{Servers: v.timeServers, Standard: !v.ownServers}, nil
}

// GetKubernetes implements config.Server.
func (s *server) GetKubernetes(context.Context, *config.GetKubernetesRequest) (*config.Kubernetes, error) {
	now := s.current()
	k := now.kubernetes
	if k == nil {
		return &config.Kubernetes{}, nil
	}
	role, _ := words.Parse[config.NodeRole](k.role) // checkRole takes no other word
	answer := &config.Kubernetes{
		Configured:     true,
		Cluster:        k.cluster,
		PodNetwork:     k.podNetwork.String(),
		ServiceNetwork: k.serviceNetwork.String(),
		Role:           role,
		ExtraArgs:      map[string]*config.Flags{},
		Registries:     now.registries.message(),
	}
	for component, flags := range k.extraArgs {
		answer.ExtraArgs[component] = &config.Flags{Values: flags}
	}
	return answer, nil
}

func (r registries) message() *config.Registries {
	m := &config.Registries{Proxy: r.proxy.url, ProxyExcept: r.proxy.except}
	for _, h := range r.hosts {
		m.Hosts = append(m.Hosts, &config.Registry{Name: h.name, Mirrors: h.mirrors, Ca: h.ca, Http: h.http})
	}
	return m
}
