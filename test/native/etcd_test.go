package native

import (
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/etcd"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

// The database comes up behind all its walls with what trustd has made for it, and is
// restarted without a second process beside it. The test asks as kubed does.
func TestEtcdd(t *testing.T) {
	m := start(t)
	ctx := bounded(t)
	admin := claim(t, m)
	if _, err := m.WaitUp(ctx, admin); err != nil {
		t.Fatal(err)
	}
	pid1, database := machine.NewClient(m.Peer("kubed", "machine")), etcd.NewClient(m.Peer("kubed", "etcd"))
	keys := trust.NewClient(m.Peer("kubed", "trust"))
	if _, err := keys.PrepareKubernetes(ctx, &trust.PrepareKubernetesRequest{Node: "dactyl", Addresses: []string{"127.0.0.1"}, ServiceNetwork: "10.96.0.0/16"}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := pid1.StartProgram(ctx, &machine.StartProgramRequest{Name: "etcdd"}); err != nil {
		t.Fatal(err)
	}
	serving := func() *etcd.Status {
		t.Helper()
		for {
			s, err := database.GetStatus(ctx, &etcd.GetStatusRequest{})
			if err == nil && s.Serving {
				return s
			}
			if !m.pause(ctx) {
				t.Fatalf("%v, %v", s, err)
			}
		}
	}
	before := serving()
	t.Logf("serves after %v", time.Since(begin))
	if before.CertificateExpiresUnixNs == 0 || before.Message != "" {
		t.Errorf("%v", before)
	}
	if _, err := machine.NewClient(admin).RestartDaemon(ctx, &machine.RestartDaemonRequest{Name: "etcdd"}); err != nil {
		t.Fatal(err)
	}
	if after := serving(); after.Member != before.Member || after.RaftTerm <= before.RaftTerm {
		t.Errorf("before %v\nafter  %v", before, after)
	}
	list, err := machine.NewClient(admin).ListDaemons(ctx, &machine.ListDaemonsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list.Daemons {
		if d.Name == "etcdd" {
			t.Logf("%v", d)
			if d.Uid != 110 || len(d.Capabilities) > 0 || d.Seccomp != "filter" || !d.NoNewPrivs || !d.Namespaces["net"] || !d.Namespaces["user"] {
				t.Errorf("%v", d)
			}
		}
	}
}
