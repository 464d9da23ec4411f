package main

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dactyl-os/dactyl/ipc/trust"
)

var update = flag.Bool("update", false, "write what the commands print into the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dactyl": main})
}

// TestScripts runs the command itself, as a process, against a machine that
// lives in the test: its API over TLS, with a gateway that knows roles.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			setupMachines(t, e)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "image": makeImage},
	})
}

// setupMachines gives a script machines at these addresses:
//
//	ADDRESS   whose admin, operator and reader are contexts here; also claimable
//	OTHER     of another CA, without a cluster; context bare
//	FORGED    which shows ADDRESS's CA behind a certificate that is not from it
//	NAT       which calls itself 192.0.2.10
//	LOSSY     which loses the answer to the first claim, and the end of a snapshot; context lossy.
//	          Its node is Ready the second time it is asked
//
// CODE, OTHER_CODE, NAT_CODE and LOSSY_CODE are their pairing codes.
func setupMachines(t *testing.T, e *testscript.Env) {
	home := newFake(t)
	address := home.serve(home.chain())
	other := newFake(t)
	other.noCluster, other.badSnapshot = true, true
	nat := newFake(t)
	nat.names = []string{"192.0.2.10"}
	lossy := newFake(t)
	lossy.loseClaim, lossy.cutSnapshot, lossy.readyAt = true, true, 2
	e.Setenv("ADDRESS", address)
	bare, lossyAt := other.serve(other.chain()), lossy.serve(lossy.chain())
	e.Setenv("OTHER", bare)
	forged := other.chain()
	forged.Certificate[1] = home.ca.Raw
	e.Setenv("FORGED", other.serve(forged))
	e.Setenv("NAT", nat.serve(nat.chain()))
	e.Setenv("LOSSY", lossyAt)
	for name, f := range map[string]*fake{"CODE": home, "OTHER_CODE": other, "NAT_CODE": nat, "LOSSY_CODE": lossy} {
		e.Setenv(name, f.code().String())
	}
	wrong := home.code()
	wrong.Secret = trust.Secret(uint64(wrong.Secret) ^ 1)
	e.Setenv("WRONG_CODE", wrong.String())

	dir := filepath.Join(e.WorkDir, "config")
	e.Setenv("DACTYL_CONFIG", dir)
	const day = 24 * time.Hour
	err := store(dir).update(func(all *contexts) error {
		all.Current = "node-1"
		all.put(home.context("node-1", address, "admin", -time.Hour, 30*day))
		all.put(home.context("operator", address, "operator", -time.Hour, 30*day))
		all.put(home.context("reader", address, "reader", -time.Hour, 30*day))
		all.put(home.context("old-admin", address, "admin", -20*time.Hour, time.Hour))
		all.put(home.context("old-reader", address, "reader", -20*time.Hour, time.Hour))
		all.put(home.context("ended", address, "admin", -2*time.Hour, -time.Hour))
		all.put(other.context("stranger", address, "admin", -time.Hour, 30*day))
		all.put(other.context("bare", bare, "admin", -time.Hour, 30*day))
		all.put(lossy.context("lossy", lossyAt, "admin", -time.Hour, 30*day))
		mixed := other.context("unknown", address, "admin", -time.Hour, 30*day)
		mixed.Authority = toPEM(pemCertificate, home.ca.Raw)
		all.put(mixed)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// exits runs a command that must end with the code given:
//
//	exits 4 dactyl restart nothing
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit := (*exec.ExitError)(nil)
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// makeImage writes a small sparse image with a GPT and an ESP:
//
//	image FILE
func makeImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: image FILE")
	}
	for _, tool := range []string{"sgdisk", "mkfs.vfat"} {
		if _, err := exec.LookPath(tool); err != nil {
			ts.Fatalf("%v: install it", err)
		}
	}
	path := ts.MkAbs(args[0])
	f, err := os.Create(path)
	ts.Check(err)
	defer f.Close()
	ts.Check(f.Truncate(72 << 20))
	esp := path + ".esp"
	defer os.Remove(esp)
	for _, command := range [][]string{
		{"sgdisk", "-n", "1:2048:+64M", "-t", "1:ef00", "-c", "1:ESP", "-n", "2:0:+2M", "-c", "2:STATE", path},
		{"truncate", "-s", "64M", esp},
		{"mkfs.vfat", "-F", "32", "-s", "1", "-S", "512", "-n", "DACTYL-ESP", esp},
		{"mmd", "-i", esp, "::/EFI"},
		{"dd", "if=" + esp, "of=" + path, "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none"},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			ts.Fatalf("%v: %v: %s", command, err, out)
		}
	}
}
