package system

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
	"github.com/dactyl-os/dactyl/buildkit/packages"
	"github.com/dactyl-os/dactyl/daemons/abi"
)

// underFilter makes this test's program start another one: the filter's file, the
// program and its arguments follow.
const underFilter = "under-filter"

func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == underFilter {
		fmt.Fprintln(os.Stderr, startUnderFilter(os.Args[2], os.Args[3], os.Args[4:]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// startUnderFilter does what PID 1 does last.
func startUnderFilter(file, program string, args []string) error {
	filter, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))}
	if _, _, errno := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errno
	}
	return unix.Exec(program, append([]string{filepath.Base(program)}, args...), os.Environ())
}

// Programs that others wrote make no call that their filter refuses until they ask
// for what they cannot do without: etcd or the API server. Here a refused call ends
// them at once, as nothing else does.
func TestForeignProgramsNeedNoMoreThanTheirFilter(t *testing.T) {
	cached, err := packages.Cached(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if cached["kubernetes"] == "" {
		t.Skip("kubernetes is not in the cache; make it with go run ./buildkit/cmd/packages")
	}
	dir := t.TempDir()
	writeKey(t, filepath.Join(dir, "tls"))
	writeFile(t, filepath.Join(dir, "Corefile"), ".:%[1]s {\n bind 127.0.0.1\n kubernetes cluster.local {\n kubeconfig kubeconfig\n }\n forward . 127.0.0.1:%[1]s\n}\n", freePort(t))
	server := "--kubeconfig=kubeconfig --leader-elect=false --bind-address=127.0.0.1 --secure-port=%s --tls-cert-file=tls.crt --tls-private-key-file=tls.key"
	tried := 0
	for name, args := range map[string]string{
		"coredns":                 "-conf Corefile",
		"kube-scheduler":          fmt.Sprintf(server, freePort(t)),
		"kube-controller-manager": fmt.Sprintf(server, freePort(t)),
		"kube-apiserver": "--etcd-servers=http://127.0.0.1:%[1]s --bind-address=127.0.0.1 --secure-port=" + freePort(t) +
			" --tls-cert-file=tls.crt --tls-private-key-file=tls.key --client-ca-file=tls.crt --authorization-mode=Node,RBAC" +
			" --service-account-key-file=tls.crt --service-account-signing-key-file=tls.key --service-account-issuer=https://x.y" +
			" --service-cluster-ip-range=10.96.0.0/16 --audit-log-path=audit.log",
	} {
		d := foreign(t, name)
		tried++
		t.Run(name, func(t *testing.T) {
			own := t.TempDir()
			if err := os.CopyFS(own, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			asked, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer asked.Close()
			port := fmt.Sprint(asked.Addr().(*net.TCPAddr).Port)
			writeFile(t, filepath.Join(own, "kubeconfig"), "{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: 'http://127.0.0.1:%s'}}], contexts: [{name: x, context: {cluster: c}}], current-context: x}", port)
			writeFile(t, filepath.Join(own, "filter"), "%s", deadly(d.Foreign.Filter))
			if strings.Contains(args, "%[1]s") {
				args = fmt.Sprintf(args, port)
			}
			program := filepath.Join(own, name)
			if err := os.Symlink(cached["kubernetes"], program); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/proc/self/exe", append([]string{underFilter, "filter", program}, strings.Fields(args)...)...)
			cmd.Dir, cmd.Env = own, d.Foreign.Env
			untilAsked(t, cmd, asked)
		})
	}
	if tried != 4 {
		t.Errorf("%d programs were tried", tried)
	}
}

// foreign is what PID 1 is told of a program.
func foreign(t *testing.T, name string) abi.Daemon {
	t.Helper()
	b, err := manifest.Read(t.Context(), "../..", "production")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range b.System("0", 0).Daemons {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("no %s in the image", name)
	return abi.Daemon{}
}

// deadly makes a filter that kills where the one given refuses.
func deadly(filter []byte) []byte {
	const ret, value = 0x06, 4 // the instruction's code, and where its value is
	out := bytes.Clone(filter)
	for i := 0; i < len(out); i += 8 {
		if binary.NativeEndian.Uint16(out[i:]) == ret && binary.NativeEndian.Uint32(out[i+value:]) == unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM) {
			binary.NativeEndian.PutUint32(out[i+value:], unix.SECCOMP_RET_KILL_PROCESS)
		}
	}
	return out
}

// untilAsked runs cmd until it connects to the listener and ends it then.
func untilAsked(t *testing.T, cmd *exec.Cmd, asked net.Listener) {
	t.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	came := make(chan struct{})
	go func() {
		if c, err := asked.Accept(); err == nil {
			c.Close()
			close(came)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case err := <-ended: // "bad system call" if its filter refused one
		t.Fatalf("it ended: %v\n%s", err, said.String())
	case <-ctx.Done():
		t.Error("it asked nobody")
	case <-came:
	}
	cmd.Process.Kill()
	<-ended
	if t.Failed() {
		t.Log(said.String())
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

func writeFile(t *testing.T, path, format string, a ...any) {
	t.Helper()
	if err := os.WriteFile(path, fmt.Appendf(nil, format, a...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeKey writes path.key and its certificate path.crt.
func writeKey(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	cert, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: cert}, ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		writeFile(t, path+name, "%s", pem.EncodeToMemory(block))
	}
}
