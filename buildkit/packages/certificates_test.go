package packages

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The file has every certificate of the package, and nothing of this machine's own.
func TestCertificates(t *testing.T) {
	f, err := certificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rest, err := os.ReadFile(f.From)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for block, left := pem.Decode(rest); block != nil; block, left = pem.Decode(left) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !c.IsCA {
			t.Errorf("%v is not a CA's certificate: %v", c, err)
			continue
		}
		found[string(c.Raw)] = true
	}
	list, err := output(t.Context(), "dpkg-query", "-L", certificatesPackage)
	if want := strings.Count(list, certificatesDir); err != nil || len(found) != want || want < 100 {
		t.Errorf("%d certificates; the package has %d (%v)", len(found), want, err)
	}
	again, err := certificates(t.Context())
	if err != nil || again.From != f.From {
		t.Errorf("made again it is %s, not %s (%v)", again.From, f.From, err)
	}
}

// A file with something else in it is refused, and so is none.
func TestBundle(t *testing.T) {
	f, err := certificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(f.From)
	if err != nil {
		t.Fatal(err)
	}
	_, rest := pem.Decode(text)
	one := strings.TrimSuffix(string(text), string(rest))
	for name, content := range map[string]string{
		"one certificate":   one,
		"two certificates":  one + one,
		"nothing":           "",
		"a key":             "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"text at the end":   one + "more\n",
		"text at the start": "Subject: x\n" + one,
	} {
		path := filepath.Join(t.TempDir(), "x.crt")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := bundle([]DebianFile{{File: File{From: path}}})
		if want := name == "one certificate" || name == "text at the start"; (err == nil) != want || (want && got != one) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := bundle(nil); err == nil {
		t.Error("no certificates at all, and that is no error")
	}
}

// A Go program in a root with nothing else, as containerd in the pods' domain, trusts
// exactly these.
func TestGoFindsCertificates(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may change its root")
	}
	f, err := certificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(root, "roots"), "./testdata/roots")
	build.Env = environment(false)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ask := func() ([]byte, error) {
		cmd := exec.Command("chroot", root, "/roots", CertificatesPath)
		cmd.Env = []string{}
		return cmd.CombinedOutput()
	}
	if _, err := ask(); err == nil {
		t.Error("without the file there are certificates, too")
	}
	if err := Install(root, []File{f.File}); err != nil {
		t.Fatal(err)
	}
	if out, err := ask(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
