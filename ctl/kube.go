package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/dactyl-os/dactyl/ipc/kube"
	machineapi "github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/words"
)

func kubeFlags(f *pflag.FlagSet) {
	f.Bool("wait", false, "wait until the node is Ready")
	f.Duration("wait-timeout", 10*time.Minute, "how `long` to wait at most")
}

func kubeStatus(c *call) error {
	return c.withMachine(func(s *session) error {
		ask := func() (*kube.GetStatusResponse, error) {
			return kube.NewClient(s).GetStatus(c.ctx, &kube.GetStatusRequest{})
		}
		if c.isSet("wait") {
			ask = func() (*kube.GetStatusResponse, error) { return c.waitReady(s) }
		}
		answer, err := ask()
		if err != nil {
			return err
		}
		return c.showKube(answer)
	})
}

// waitReady tells of each component when it is healthy, and returns when the node
// is Ready. A machine that goes away meanwhile is waited for.
func (c *call) waitReady(s *session) (*kube.GetStatusResponse, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.duration("wait-timeout"))
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	told, last := map[string]bool{}, "it has not answered"
	for {
		now, err := kube.NewClient(s).GetStatus(ctx, &kube.GetStatusRequest{Brief: true})
		switch {
		case err == nil && now.State == kube.ClusterState_CLUSTER_STATE_NOT_CONFIGURED:
			return nil, fail(exitRefused, "%s: %s", s.machine.Name, now.Message)
		case err == nil && now.Ready:
			return kube.NewClient(s).GetStatus(ctx, &kube.GetStatusRequest{})
		case err == nil:
			last = now.Message
			c.tellHealthy(now, told)
		case codeOf(err) != exitConnection && codeOf(err) != exitTimeout:
			return nil, err
		}
		select {
		case <-ctx.Done():
			if c.ctx.Err() != nil {
				return nil, c.ctx.Err()
			}
			return nil, fail(exitTimeout, "the node of %s is not Ready: %s", s.machine.Name, last)
		case <-tick.C:
		}
	}
}

func (c *call) tellHealthy(now *kube.GetStatusResponse, told map[string]bool) {
	for _, part := range now.Components {
		if part.Healthy && !told[part.Name] {
			told[part.Name] = true
			c.note("%s is healthy", part.Name)
		}
	}
}

// showKube prints what the cluster says of the node, and then its components. A
// machine without a cluster has none.
func (c *call) showKube(r *kube.GetStatusResponse) error {
	if c.output != asTable {
		return c.show(r, nil)
	}
	node := nodeTable(r)
	if err := node.write(c.stdout); err != nil || len(r.Components) == 0 {
		return err
	}
	fmt.Fprintln(c.stdout)
	parts := componentTable(r)
	if err := parts.write(c.stdout); err != nil {
		return err
	}
	for _, p := range r.Components {
		for _, path := range p.SetAside {
			fmt.Fprintf(c.stdout, "\n%s was set aside, because %s could not start with it; the next boot deletes it.\n", path, p.Name)
		}
	}
	return nil
}

func nodeTable(r *kube.GetStatusResponse) table {
	t := table{header: []string{"CLUSTER", "NODE", "ADDRESS", "STATE", "SINCE", "MESSAGE"}}
	since := ""
	if r.NodeReady {
		since = millis(r.NodeReadyMs)
	}
	t.add(r.Cluster, r.Node, r.Address, words.Of(r.State), since, r.Message)
	return t
}

func componentTable(r *kube.GetStatusResponse) table {
	t := table{header: []string{"COMPONENT", "STATE", "HEALTH", "SINCE", "VERSION", "PID", "UID", "MEMORY", "RESTARTS", "WAITING-FOR", "REASON"}}
	for _, c := range r.Components {
		pid, memory, since := "", "", ""
		if c.Pid != 0 {
			pid, memory = decimal(c.Pid), size(c.MemoryBytes)
		}
		if health(c) != "" {
			since = millis(c.SinceMs)
		}
		t.add(c.Name, words.Of(c.State), health(c), since, c.Version, pid, decimal(c.Uid), memory, decimal(c.Restarts), c.WaitingFor, c.Reason)
	}
	return t
}

// health is empty of a component that does not run: there is nothing to ask.
func health(c *kube.Component) string {
	switch {
	case c.Healthy:
		return "ok"
	case c.State == machineapi.DaemonState_DAEMON_STATE_UP:
		return "failing"
	}
	return ""
}

func restartComponent(c *call) error {
	return c.withMachine(func(s *session) error {
		answer, err := kube.NewClient(s).RestartComponent(c.ctx, &kube.RestartComponentRequest{Name: c.args[0]})
		if err != nil {
			return err
		}
		return c.show(answer, func() table {
			return table{header: []string{"COMPONENT", "PID"}, rows: [][]string{{c.args[0], decimal(answer.Pid)}}}
		})
	})
}

// componentNames completes the name of a component.
func componentNames(c *call) (names []string) {
	s, err := c.connect()
	if err != nil {
		return nil
	}
	defer s.close()
	answer, err := kube.NewClient(s).GetStatus(c.ctx, &kube.GetStatusRequest{Brief: true})
	if err != nil {
		return nil
	}
	for _, part := range answer.Components {
		names = append(names, part.Name)
	}
	return names
}
