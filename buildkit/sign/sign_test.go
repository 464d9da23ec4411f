package sign

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const bootLoader = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"

func TestSbverifyAccepts(t *testing.T) {
	dir := t.TempDir()
	k, err := LoadOrCreate(filepath.Join(dir, "keys"), "test")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(bootLoader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := EFI(program, k)
	if err != nil {
		t.Fatal(err)
	}
	again, err := EFI(program, k)
	if err != nil || !bytes.Equal(signed, again) {
		t.Errorf("signed twice: different bytes (%v)", err)
	}
	cert := filepath.Join(dir, "keys", certFile)
	if out, err := sbverify(dir, cert, signed); err != nil {
		t.Errorf("sbverify: %v: %s", err, out)
	}
	signed[0x1000] ^= 1
	if out, err := sbverify(dir, cert, signed); err == nil {
		t.Errorf("a byte flipped and sbverify still accepts: %s", out)
	}
	if _, err := EFI(signed, k); err == nil {
		t.Error("a signed program was signed again")
	}
}

// The boot loader comes with a checksum by another program.
func TestChecksum(t *testing.T) {
	b, err := os.ReadFile(bootLoader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePE(b)
	if err != nil {
		t.Fatal(err)
	}
	want := binary.LittleEndian.Uint32(b[p.checksum:])
	if len(b)%2 != 0 {
		b = append(b, 0)
	}
	if got := checksum(b, p.checksum) - uint32(len(b)-len(mustRead(t))); got != want {
		t.Errorf("checksum %#x, want %#x", got, want)
	}
}

func mustRead(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(bootLoader)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeysAreMadeOnceAndKeptFromOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no keys: error %v, want fs.ErrNotExist", err)
	}
	first, err := LoadOrCreate(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadOrCreate(dir, "test")
	if err != nil || !first.Certificate.Equal(second.Certificate) {
		t.Errorf("the second call made other keys (%v)", err)
	}
	info, err := os.Stat(filepath.Join(dir, keyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key's mode is %v (%v), want 0600", info.Mode(), err)
	}
}

func TestRefusesWhatIsNoProgram(t *testing.T) {
	for _, b := range [][]byte{nil, []byte("MZ"), make([]byte, 4096), append([]byte("MZ"), bytes.Repeat([]byte{0xff}, 4096)...)} {
		if _, err := EFI(b, Keys{}); err == nil {
			t.Errorf("%d bytes that are no program were signed", len(b))
		}
	}
}

func sbverify(dir, cert string, program []byte) ([]byte, error) {
	name := filepath.Join(dir, "program.efi")
	if err := os.WriteFile(name, program, 0o644); err != nil {
		return nil, err
	}
	return exec.Command("sbverify", "--cert", cert, name).CombinedOutput()
}

// The key of one mode signs images of no other: sbverify with the certificate that a
// production machine trusts rejects a program that the others have signed.
func TestEachModeHasItsOwnKey(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	keys := map[string]Keys{}
	for _, mode := range Modes {
		k, err := ForMode(mode)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ForMode(mode); err != nil || !again.Certificate.Equal(k.Certificate) {
			t.Errorf("%s: the second call made other keys (%v)", mode, err)
		}
		if !strings.Contains(k.Certificate.Subject.CommonName, mode) {
			t.Errorf("%s: the certificate is called %q", mode, k.Certificate.Subject.CommonName)
		}
		keys[mode] = k
	}
	program, err := os.ReadFile(bootLoader)
	if err != nil {
		t.Fatal(err)
	}
	trusted := filepath.Join(t.TempDir(), "production.crt")
	if err := writePEM(trusted, "CERTIFICATE", keys["production"].Certificate.Raw, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, mode := range Modes {
		signed, err := EFI(program, keys[mode])
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), mode+".efi")
		if err := os.WriteFile(file, signed, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sbverify", "--cert", trusted, file).CombinedOutput()
		if (err == nil) != (mode == "production") {
			t.Errorf("%s: sbverify with the production certificate: %v\n%s", mode, err, out)
		}
	}
	if _, err := ForMode("debug"); err == nil {
		t.Error("a mode that does not exist has keys")
	}
}
