package main

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// view is what kubed tells of Kubernetes.
type view struct {
	state     kube.ClusterState
	message   string // for people
	cluster   string
	node      string
	address   netip.Addr
	nodeReady bool
	nodeFor   time.Duration
	parts     []partView
}

type partView struct {
	name       partName
	version    string
	state      machine.DaemonState
	restarts   uint32
	healthy    bool
	since      time.Duration
	waitingFor string
	reason     string
}

func (e *engine) view(now time.Time) view {
	v := view{message: "the configuration is not known yet"}
	if e.settings == nil {
		return v
	}
	v.cluster = e.settings.cluster
	if !e.settings.configured {
		v.state, v.message = kube.ClusterState_CLUSTER_STATE_NOT_CONFIGURED, "no cluster configured"
		return v
	}
	v.node, v.address = e.who.Name, e.who.Address
	v.nodeReady, v.nodeFor = e.nodeReady, now.Sub(e.nodeSince)
	for _, p := range e.parts {
		v.parts = append(v.parts, e.partView(now, p))
	}
	v.state, v.message = e.state(v.parts)
	return v
}

// configured says that the machine is to be part of a cluster.
func (v view) configured() bool {
	return v.state != kube.ClusterState_CLUSTER_STATE_UNSPECIFIED && v.state != kube.ClusterState_CLUSTER_STATE_NOT_CONFIGURED
}

func (v view) ready() bool { return v.state == kube.ClusterState_CLUSTER_STATE_READY }

// summary is what is worth a line in the log when it changes.
type summary struct {
	healthy [10]bool   // by part
	spared  [10]string // by part: why its directories stay
	node    bool
}

func (e *engine) summary() (s summary) {
	for i, p := range e.parts {
		s.healthy[i] = p.healthy
		if e.settings != nil {
			s.spared[i] = e.spared(p)
		}
	}
	s.node = e.nodeReady
	return s
}

// state returns the state of a cluster that is configured, and in words the first thing
// that keeps the node from being ready.
func (e *engine) state(parts []partView) (kube.ClusterState, string) {
	if e.wrong != "" {
		return kube.ClusterState_CLUSTER_STATE_MISCONFIGURED, e.wrong
	}
	if obstacle := e.obstacle(parts); obstacle != "" {
		return kube.ClusterState_CLUSTER_STATE_NOT_READY, obstacle
	}
	return kube.ClusterState_CLUSTER_STATE_READY, "ready"
}

func (e *engine) obstacle(parts []partView) string {
	switch {
	case e.lacks != "":
		return "waiting for the node's " + e.lacks
	case e.keysFail != "":
		return "keys: " + e.keysFail
	}
	ill := slices.IndexFunc(parts, func(p partView) bool { return !p.healthy })
	switch {
	case ill >= 0 && parts[ill].reason != "":
		return string(parts[ill].name) + ": " + parts[ill].reason
	case ill >= 0:
		return "waiting for " + string(parts[ill].name)
	case !e.nodeReady && e.nodeSays != "":
		return "node: " + e.nodeSays
	case !e.nodeReady:
		return "waiting for the node"
	}
	return ""
}

func (e *engine) partView(now time.Time, p *part) partView {
	v := partView{name: p.name, version: p.version, state: p.process.state, restarts: p.process.restarts, healthy: p.healthy, since: now.Sub(p.since), reason: p.problem}
	if p.asked != "" && p.process.state != machine.DaemonState_DAEMON_STATE_UP && p.process.reason != "" {
		v.reason = words.Of(p.process.state) + ": " + p.process.reason
	}
	if why := e.spared(p); why != "" {
		v.reason = strings.TrimPrefix(v.reason+"; its directories stay, because "+why, "; ")
	}
	switch {
	case p.asked != "":
	case e.lacks != "":
		v.waitingFor = e.lacks
	case e.node == nil || e.keys != e.wish().String():
		v.waitingFor = "keys"
	default:
		v.waitingFor = string(e.missing(p))
	}
	return v
}
