package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/pods"
)

const (
	// snapshotPatience bounds the wait for a snapshot, be it another process that makes it.
	// It is twice that for a Ready node: a pod runs in the snapshot, too.
	snapshotPatience = 2 * readyPatience

	// settlePatience is how long a node that is Ready may take to become idle before its
	// snapshot is made anyway. Most is over after ten seconds.
	settlePatience = time.Minute

	// idleShare is what an idle node takes of one processor, without KVM, and some more.
	idleShare = 0.8
)

// ReadyPod is a pod of TestImageName that runs on each machine of Ready, in the namespace
// ReadyNamespace: what only has to be executed in a pod need not wait for one.
const (
	ReadyNamespace = "ready"
	ReadyPod       = "workload"
)

// Ready returns a machine with a Ready node that belongs to the test and ends with it. The
// machine is restored from a snapshot in seconds; the snapshot is made, which takes minutes,
// if there is none for this image and configuration yet.
//
//	func TestConfigMap(t *testing.T) {
//		m := vm.Ready(t, vm.Config{})
//		c := m.Cluster().In("config-map")                   // kubectl in a namespace
//		c.Run("create", "configmap", "greeting", "--from-literal=text=hello")
//		c.Run("run", "web", "--image="+vm.TestImageName)     // the image is loaded
//		c.Run("wait", "--for=condition=Ready", "pod/web", "--timeout=4m")
//		c.Run("exec", "web", "--", "workload", "ps")
//		m.Dactyl().Run("kube", "status")                     // the command, as an admin
//		version, err := m.Machine0().GetVersion(vm.Context(t), &machine.GetVersionRequest{})
//		…
//	}
//
// Image defaults to the test image, YAML to a cluster with this node alone, MemoryMiB to
// 2048. Scenarios that can do with these defaults use the same snapshot, whatever they set
// NIC and Forward to. Each machine has its own disk, ports and network.
//
// What a scenario has to know of restored machines:
//   - They all have one identity: CA, keys, MAC address, node name. They must never share a
//     network.
//   - Their clock is late by the age of the snapshot, at most 12 hours.
//   - They have an address, gateway and name server from their YAML, as an Offline machine
//     has. With UserNetwork the host is 10.0.2.2.
//   - Serial begins when the machine is restored: it has no lines of the boot.
//   - Kill and PowerOn boot the machine from its disk, which takes as long as any boot.
//
// A scenario about booting, claiming or the way to Ready uses Boot.
func Ready(t *testing.T, c Config) *Running {
	t.Helper()
	if c.Image == "" {
		c.Image = Image(t, "test")
	}
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	c = c.forNode()
	ctx, cancel := context.WithTimeout(t.Context(), snapshotPatience)
	defer cancel()
	m, id, err := resume(ctx, t.Context(), repository(t), c, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	r := (&claimed{Config: c, Machine: m, Identity: id, life: t.Context(), atEnd: t.Cleanup}).with(t)
	r.atEnd(m.Kill)
	r.connect()
	r.WaitUp()
	r.WaitReady()
	return r
}

// Resume starts a machine as Ready does, for the repository at root, and returns it as
// soon as it runs, with its admin. It calls say with what it has done. The machine ends
// with Kill, with the guest's power-off, or with life; ctx bounds the way to there.
func Resume(ctx, life context.Context, root string, c Config, say func(format string, a ...any)) (*Machine, Identity, error) {
	return resume(ctx, life, root, c.forNode(), say)
}

// forNode fills in what Ready says.
func (c Config) forNode() Config {
	if c.YAML == "" {
		c.YAML = "kubernetes: {}\n"
	}
	c.DiskGiB, c.MemoryMiB, c.CPUs = or(c.DiskGiB, 4), or(c.MemoryMiB, 2048), or(c.CPUs, 2)
	return c
}

// resume restores a machine that lives until life ends.
func resume(ctx, life context.Context, root string, c Config, say func(string, ...any)) (*Machine, Identity, error) {
	if c.Kernel != "" || c.NIC == NoNIC {
		return nil, Identity{}, errors.New("a machine without UEFI or without a network cannot be restored as a Ready node")
	}
	parent, err := snapshots()
	if err != nil {
		return nil, Identity{}, err
	}
	offline := c // all networks have one snapshot: they differ on the host alone
	offline.NIC, offline.Forward, offline.NoReboot = Offline, nil, true
	key, err := snapshotKey(ctx, root, offline)
	if err != nil {
		return nil, Identity{}, err
	}
	s, err := findSnapshot(ctx, parent, key, func(dir string) error {
		begin := time.Now()
		say("no snapshot of a Ready node of %s: a machine is booted for one", c.Image)
		if err := makeSnapshot(ctx, root, offline, dir); err != nil {
			return fmt.Errorf("make a snapshot of a Ready node: %w", err)
		}
		say("the snapshot took %.0f s", time.Since(begin).Seconds())
		return nil
	})
	if err != nil {
		return nil, Identity{}, err
	}
	defer s.close()
	begin := time.Now()
	m, id, err := s.restore(ctx, life, c)
	if err == nil {
		say("restored in %.1f s from a snapshot that is %v old", time.Since(begin).Seconds(), time.Since(s.made).Round(time.Minute))
	}
	return m, id, err
}

// restore starts a machine that goes on where the snapshot's was paused.
func (s *snapshot) restore(ctx, life context.Context, c Config) (*Machine, Identity, error) {
	id, err := s.identity()
	if err != nil {
		return nil, Identity{}, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, Identity{}, err
	}
	for _, name := range []string{diskFile, varsFile} {
		if err := copyFile(ctx, s.file(name), filepath.Join(c.Dir, name)); err != nil {
			return nil, Identity{}, err
		}
	}
	c.Extra = append(slices.Clone(c.Extra), "-incoming", "defer")
	noReboot := c.NoReboot
	c.NoReboot = false // its PID 1 has started long ago
	m, err := Start(life, c)
	if err != nil {
		return nil, Identity{}, err
	}
	err = m.listening(ctx)
	if err == nil && noReboot {
		err = m.qmp.execute(ctx, "set-action", map[string]any{"reboot": "shutdown"})
	}
	if err == nil {
		err = m.load(ctx, s.file(memoryFile))
	}
	if err != nil {
		m.Kill()
		return nil, Identity{}, err
	}
	return m, id, nil
}

// makeSnapshot boots a machine in dir and leaves a snapshot there.
func makeSnapshot(ctx context.Context, root string, c Config, dir string) error {
	work, err := os.MkdirTemp("", "dactyl-snapshot-") // short enough for the path of a socket
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	c.Dir = work
	m, err := Start(ctx, c)
	if err != nil {
		return err
	}
	defer m.Kill()
	id, err := bringUp(ctx, m, root, work)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, m.Serial.Last(20))
	}
	if err := m.settle(ctx); err != nil {
		return err
	}
	if err := m.sound(); err != nil {
		return err
	}
	if err := m.save(ctx, filepath.Join(dir, memoryFile)); err != nil {
		return err
	}
	m.Kill()
	if err := flatten(ctx, filepath.Join(work, diskFile), filepath.Join(dir, diskFile)); err != nil {
		return err
	}
	if err := copyFile(ctx, filepath.Join(work, varsFile), filepath.Join(dir, varsFile)); err != nil {
		return err
	}
	saved, err := id.save()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, identityFile), encode(saved), 0o600)
}

// bringUp claims a machine that boots, waits until its node is Ready, loads the
// workload's image and starts ReadyPod.
func bringUp(ctx context.Context, m *Machine, root, dir string) (Identity, error) {
	code, err := m.Serial.WaitFor(ctx, 0, pairingCode)
	if err != nil {
		return Identity{}, err
	}
	id, err := Claim(ctx, m.API, code[1])
	if err != nil {
		return Identity{}, fmt.Errorf("claim: %w", err)
	}
	admin, err := Dial(m.API, id)
	if err != nil {
		return Identity{}, err
	}
	defer admin.Close()
	if _, err := daemonsUp(ctx, machine.NewClient(admin)); err != nil {
		return Identity{}, err
	}
	if err := nodeReady(ctx, kube.NewClient(admin)); err != nil {
		return Identity{}, fmt.Errorf("%w\n%s", err, LogsOfIll(context.WithoutCancel(ctx), admin))
	}
	archive, err := WriteTestImage(ctx, root, dir, TestImageName, nil)
	if err != nil {
		return Identity{}, err
	}
	if _, err := LoadImage(ctx, pods.NewClient(admin), archive); err != nil {
		return Identity{}, fmt.Errorf("load %s: %w", TestImageName, err)
	}
	return id, startReadyPod(ctx, m, admin, root, dir)
}

// startReadyPod starts ReadyPod and waits until a program runs in it.
func startReadyPod(ctx context.Context, m *Machine, admin *Conn, root, dir string) error {
	program, err := BuildKubectl(ctx, root)
	if err != nil {
		return err
	}
	text, err := Kubeconfig(ctx, admin, m.KubeURL())
	if err != nil {
		return err
	}
	config := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return err
	}
	apply, namespace := []string{"apply", "-f", "-"}, map[string]any{"name": ReadyNamespace}
	for _, step := range []struct {
		input any
		args  []string
	}{
		{map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": namespace}, apply},
		{nil, []string{"get", "serviceaccount", "default"}}, // no pod is accepted before the namespace has it
		{map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": ReadyPod}, "spec": map[string]any{
			"containers": []any{map[string]any{"name": "workload", "image": TestImageName}}}}, apply},
		{nil, []string{"wait", "--for=condition=Ready", "--timeout=5m", "pod/" + ReadyPod}},
		{nil, []string{"exec", ReadyPod, "--", "workload", "true"}},
	} {
		for {
			cmd := exec.CommandContext(ctx, program, append([]string{"--kubeconfig", config, "--namespace", ReadyNamespace}, step.args...)...)
			if step.input != nil {
				cmd.Stdin = bytes.NewReader(encode(step.input))
			}
			out, err := cmd.CombinedOutput()
			if err == nil {
				break
			}
			if !slowPause(ctx) { // a new cluster refuses some of this for a moment
				return fmt.Errorf("kubectl %s: %w: %s", strings.Join(step.args, " "), err, out)
			}
		}
	}
	return nil
}

// settle waits until the machine takes no more of the host's processors than an idle one,
// but not for ever: a snapshot of a busy machine is as good, only slower to use.
func (m *Machine) settle(ctx context.Context) error {
	settled, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	const look = 5 * time.Second
	before, err := m.processorTime()
	for err == nil && Elapse(settled, look) {
		var now time.Duration
		if now, err = m.processorTime(); err == nil && (now-before).Seconds() < idleShare*look.Seconds() {
			return nil
		}
		before = now
	}
	return errors.Join(err, ctx.Err())
}

// processorTime is what QEMU has used.
func (m *Machine) processorTime() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), ") ") // the name, which may have spaces, is before
	var user, system int64
	f := strings.Fields(after)
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", m.cmd.Process.Pid, text)
	}
	if _, err := fmt.Sscan(f[11]+" "+f[12], &user, &system); err != nil {
		return 0, fmt.Errorf("/proc/%d/stat: %w", m.cmd.Process.Pid, err)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	return time.Duration(user+system) * tick, nil
}

// sound returns an error if the machine's kernel has died or a packet tried to leave: no
// scenario is to start from that.
func (m *Machine) sound() error {
	if said, _ := died(m.Serial.Lines()); said != "" {
		return fmt.Errorf("the kernel died:\n%s", said)
	}
	leaving, err := m.Leaving()
	if err == nil && len(leaving) > 0 {
		err = fmt.Errorf("offline, but the machine sent %v", leaving)
	}
	return err
}

// flatten copies a disk with all layers below it, compressed.
func flatten(ctx context.Context, from, to string) error {
	out, err := exec.CommandContext(ctx, "qemu-img", "convert", "-q", "-O", "qcow2", "-c", "-o", "compression_type=zstd", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy the disk %s: %w: %s", from, err, out)
	}
	return nil
}
