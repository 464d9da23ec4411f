package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// Config is a machine to start.
type Config struct {
	Image     string // raw disk image; not changed
	Dir       string // holds the machine's disk and firmware variables; made if missing
	Disk      Disk
	DiskGiB   int // the disk's size; the image grows into it. 0 = 4
	MemoryMiB int // 0 = 1024
	CPUs      int // 0 = 2
	NIC       NIC
	// YAML is put on the disk as cluster.yaml, as dactyl flash --config does.
	// Empty: there is none.
	YAML string
	// Forward are ports of the guest, besides 7400 and 6443, that Forwarded finds.
	Forward []int
	// Kernel boots this bzImage directly with Append instead of through UEFI.
	Kernel string
	Append string
	// NoReboot ends QEMU where the guest would restart, once PID 1 has started.
	NoReboot bool
	Extra    []string // further arguments for QEMU
}

// Disk is what the image has been flashed to.
type Disk int

const (
	// USBStick is in a USB 3 port.
	USBStick Disk = iota
	// BuiltIn is a disk of the machine itself, on virtio.
	BuiltIn
)

// NIC is how a machine is connected.
type NIC int

const (
	// UserNetwork is QEMU's own network: DHCP, and forwarded ports.
	UserNetwork NIC = iota
	// Offline is a network from which no packet gets out, though the guest has a way
	// there and a name server: the YAML gives it both, unless it says something else of
	// network and time itself. What the guest sends is recorded: see Machine.Leaving.
	// A Running's test fails if a packet tried to leave.
	Offline
	// NoNIC is a machine without a network card.
	NoNIC
)

// Machine is a running QEMU.
type Machine struct {
	API    string // address of the guest's port 7400 on this host
	Serial *Serial

	forwarded map[int]string // address on this host by the guest's port
	capture   string         // file of an Offline machine's packets; empty: none

	cmd    *exec.Cmd
	qmp    *qmp
	ended  chan struct{}
	result error
}

// Start starts QEMU; it returns before the guest has booted. The machine ends
// with Kill, with the guest's power-off, or with ctx.
func Start(ctx context.Context, c Config) (*Machine, error) {
	c.DiskGiB, c.MemoryMiB, c.CPUs = or(c.DiskGiB, 4), or(c.MemoryMiB, 1024), or(c.CPUs, 2)
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	accel, err := Accelerator(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(append([]int{apiPort, kubePort}, c.Forward...))
	if err != nil {
		return nil, err
	}
	args := []string{"-machine", "q35", "-accel", accel, "-cpu", "max", "-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.MemoryMiB),
		"-nodefaults", "-display", "none", "-vga", "std", "-serial", "stdio", "-device", "virtio-rng-pci",
		"-qmp", "unix:" + filepath.Join(c.Dir, "qmp") + ",server=on,wait=off"}
	disk, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	boot, err := c.boot(ctx)
	if err != nil {
		return nil, err
	}
	args = append(append(args, disk...), boot...)
	m := &Machine{API: ports[apiPort], forwarded: ports, Serial: newSerial(), qmp: &qmp{path: filepath.Join(c.Dir, "qmp")}, ended: make(chan struct{})}
	if c.NIC == Offline {
		if m.capture, err = newCapture(c.Dir); err != nil {
			return nil, err
		}
	}
	args = append(append(args, c.nic(m)...), c.Extra...)
	if err := m.launch(ctx, args); err != nil {
		return nil, err
	}
	if c.NoReboot {
		go m.stayDown(ctx)
	}
	return m, nil
}

// stayDown has QEMU end where the guest would restart, from PID 1's start on: a kernel
// that dies before may not be at fault, and starts anew.
func (m *Machine) stayDown(ctx context.Context) {
	if _, err := m.Serial.WaitFor(ctx, 0, Started); err != nil {
		return // it has ended
	}
	if err := m.qmp.execute(ctx, "set-action", map[string]any{"reboot": "shutdown"}); err != nil {
		m.cmd.Process.Kill() // a test that relies on it must not pass without
	}
}

// Ports of every Dactyl.
const (
	apiPort  = 7400
	kubePort = 6443
)

func or(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}

// disk attaches a copy-on-write layer over the image.
func (c Config) disk(ctx context.Context) ([]string, error) {
	if c.Image == "" {
		return nil, nil
	}
	layer := filepath.Join(c.Dir, "disk.qcow2")
	if _, err := os.Stat(layer); err != nil {
		image, err := c.stick(ctx)
		if err != nil {
			return nil, err
		}
		out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, layer, strconv.Itoa(c.DiskGiB)+"G").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("make a disk over %s: %w: %s", c.Image, err, out)
		}
	}
	drive := []string{"-drive", "id=disk,if=none,format=qcow2,discard=unmap,file=" + layer}
	if c.Disk == BuiltIn {
		return append(drive, "-device", "virtio-blk-pci,drive=disk,serial=DACTYLDISK,bootindex=1"), nil
	}
	return append(drive, "-device", "qemu-xhci", "-device", "usb-storage,drive=disk,serial=DACTYLSTICK,removable=on,bootindex=1"), nil
}

// boot adds the firmware with variables of the machine's own, or the kernel.
func (c Config) boot(context.Context) ([]string, error) {
	if c.Kernel != "" {
		return []string{"-kernel", c.Kernel, "-append", c.Append}, nil
	}
	code, template, err := firmware()
	if err != nil {
		return nil, err
	}
	vars := filepath.Join(c.Dir, "vars.fd")
	if _, err := os.Stat(vars); err != nil {
		b, err := os.ReadFile(template)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(vars, b, 0o600); err != nil {
			return nil, err
		}
	}
	return []string{"-drive", "if=pflash,format=raw,readonly=on,file=" + code, "-drive", "if=pflash,format=raw,file=" + vars}, nil
}

func (c Config) nic(m *Machine) []string {
	if c.NIC == NoNIC {
		return []string{"-nic", "none"}
	}
	network := "user,id=net"
	if c.NIC == Offline {
		network += ",restrict=on"
	}
	for guest, address := range m.forwarded {
		network += fmt.Sprintf(",hostfwd=tcp:%s-:%d", address, guest)
	}
	args := []string{"-netdev", network, "-device", "virtio-net-pci,netdev=net"}
	if m.capture != "" {
		args = append(args, "-object", "filter-dump,id=dump,netdev=net,file="+m.capture)
	}
	return args
}

// freePorts finds a port for each of the guest's that nobody listens on. Another
// program may take one before QEMU does; QEMU then fails at once and says so.
func freePorts(guest []int) (map[int]string, error) {
	addresses := map[int]string{}
	for _, port := range guest {
		// All are held until the last is found: none is found twice.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses[port] = l.Addr().String()
	}
	return addresses, nil
}

// hugePages has QEMU's own memory lie in pages of 2 MiB, as the guest's does. Without
// KVM a third of its work is to look up what it has translated, in tables of hundreds of
// megabytes: docs/measurements.md.
const hugePages = "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"

func (m *Machine) launch(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.Env = append(os.Environ(), hugePages)
	// QEMU goes when its starter does, whatever becomes of that one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var complaint tail
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	m.cmd = cmd
	go func() {
		m.Serial.read(out)
		err := cmd.Wait()
		if err != nil {
			err = fmt.Errorf("QEMU: %w: %s", err, complaint.String())
		}
		m.result = err
		m.Serial.end()
		close(m.ended)
	}()
	return nil
}

// Forwarded returns the address on this host of one of the guest's ports.
func (m *Machine) Forwarded(port int) string {
	address, ok := m.forwarded[port]
	if !ok {
		panic(fmt.Sprintf("BUG: port %d is not in Config.Forward", port))
	}
	return address
}

// KubeURL is where this host reaches the guest's kube-apiserver.
func (m *Machine) KubeURL() string { return "https://" + m.forwarded[kubePort] }

// Kill is a pulled plug.
func (m *Machine) Kill() {
	m.cmd.Process.Kill()
	<-m.ended
}

// Wait waits until QEMU has ended, as it does when the guest powers off.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("the machine is still on: %w", ctx.Err())
	case <-m.ended:
		return m.result
	}
}

// Ended tells whether QEMU has ended.
func (m *Machine) Ended() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// Screendump writes what is on the screen to path, as PNG.
func (m *Machine) Screendump(ctx context.Context, path string) error {
	return m.qmp.execute(ctx, "screendump", map[string]any{"filename": path, "format": "png"})
}

// tail keeps the last KiB written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 1024 {
		t.b = t.b[len(t.b)-1024:]
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }

// ErrEnded says that the machine ended before what was waited for happened.
var ErrEnded = errors.New("the machine has ended")
