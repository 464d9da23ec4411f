// Scenario ephemeral_full: a file takes all that is left of the disk on which the
// cluster's database, images and pods are. Whoever is to empty it can still reach the
// machine and see what is wrong; when the file is gone the node is Ready again by itself,
// with every object it had. If it fails, one pod that writes too much takes the
// node away for good.
package ephemeral_full

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/ipc/etcd"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/ipc/storage"
	"github.com/dactyl-os/dactyl/test/vm"
)

const (
	file       = "/var/fill"
	everything = 1 << 40
)

// Scenario may cost other pods of the machine their place on the node: the kubelet
// evicts them.
func Scenario(t *testing.T, r *vm.Running) {
	r.WaitReady()
	c := r.Cluster().In("full")
	c.Run("create", "configmap", "before", "--from-literal=is=there")
	c.Run("create", "configmap", "unwanted")
	ctx := vm.Context(t)
	fill := func(size uint64) *probe.FillDiskResponse {
		answer, err := probe.NewClient(r.Admin).FillDisk(ctx, &probe.FillDiskRequest{Path: file, SizeBytes: size})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	full := fill(everything)
	emptied := false
	defer func() {
		if !emptied {
			fill(0)
		}
	}()
	if !strings.Contains(full.Error, "no space left") {
		t.Fatalf("fill %s: %d bytes, error %q; want no space left", file, full.WrittenBytes, full.Error)
	}
	t.Logf("%d MiB were left of the disk", full.WrittenBytes>>20)

	// The kubelet removes images as soon as it sees a full disk, perhaps before etcdd has
	// looked. So the file takes that, too, until etcdd has seen it: from then on the
	// database takes no writes until there is room again.
	vm.Eventually(t, func() string {
		database, err := etcd.NewClient(r.Admin).GetStatus(ctx, &etcd.GetStatusRequest{})
		if err != nil {
			return err.Error()
		}
		_, err = c.Try("", "create", "configmap", "during")
		if err == nil {
			c.Run("delete", "configmap", "during")
		}
		switch {
		case database.Message == "":
			fill(everything)
			return "etcdd does not see that the disk is full; " + disk(ctx, t, r)
		case err == nil:
			return fmt.Sprintf("etcdd says %q and an object could be created; %s", database.Message, disk(ctx, t, r))
		}
		t.Logf("etcdd says: %s", database.Message)
		return ""
	})
	for _, does := range [][]string{{"get", "configmap", "before"}, {"delete", "configmap", "unwanted"}} {
		if _, err := c.Try("", does...); err != nil {
			t.Errorf("on a full disk: %v", err)
		}
	}
	for _, d := range r.WaitUp() {
		if d.Name != "kubed" && d.Name != "podd" {
			continue
		}
		if _, err := r.Machine0().RestartDaemon(ctx, &machine.RestartDaemonRequest{Name: d.Name}); err != nil {
			t.Errorf("restart %s on a full disk: %v", d.Name, err)
		}
	}
	status, err := r.Kube().GetStatus(ctx, &kube.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("kubed says: ready %v, %s", status.Ready, status.Message)

	fill(0)
	emptied = true
	vm.Eventually(t, func() string {
		if _, err := c.Try("", "create", "configmap", "after"); err != nil {
			return err.Error()
		}
		return ""
	})
	r.WaitReady()
	if was := c.Run("get", "configmap", "before", "-o", "jsonpath={.data.is}"); was != "there" {
		t.Errorf("an object from before: %q", was)
	}
	r.NeedTestImage() // the kubelet has removed what nobody used
	c.Run("create", "deployment", "after", "--image="+vm.TestImageName)
	c.Run("rollout", "status", "deployment/after", "--timeout=4m")
}

// disk tells what the machine says of its disk.
func disk(ctx context.Context, t *testing.T, r *vm.Running) string {
	t.Helper()
	mounts, err := storage.NewClient(r.Admin).ListMounts(ctx, &storage.ListMountsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts.Mounts {
		if m.Volume == "ephemeral" {
			return fmt.Sprintf("%d of %d MiB are in use", m.UsedBytes>>20, m.SizeBytes>>20)
		}
	}
	return "there is no EPHEMERAL"
}
