package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/pods"
)

func testVault(t *testing.T) *vault {
	dir := t.TempDir()
	return &vault{kept: filepath.Join(dir, "registries.json"), given: filepath.Join(dir, ".docker/config.json")}
}

func TestWrongRegistries(t *testing.T) {
	for name, right := range map[string]bool{
		"docker.io": true, "registry.example.org": true, "registry.example.org:5000": true, "localhost:5000": true,
		"192.168.7.1:5000": true, "[fd00::7]:5000": true, "registry.example.org/team": true, "registry.example.org:5000/a/b": true,
		"": false, "https://docker.io": false, "docker.io/": false, "library": false, "index.docker.io": false, "Registry.example.org/UPPER": false,
		"registry.example.org/app:1": false, "*.example.org": false, "registry.example.org//a": false, "../x": false, "registry.example.org/../x": false,
	} {
		if why := wrongRegistry(name); (why == "") != right {
			t.Errorf("%q: %q", name, why)
		}
	}
}

// An admin sets credentials; the kubelet gets them, in the form in which it reads them;
// nobody reads a password back.
func TestCredentials(t *testing.T) {
	c, err := newContainerd(filepath.Join(t.TempDir(), "none.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	v := testVault(t)
	below := newServer(c, storageOf(t, roomy()), v, discard)
	client := serve(t, below)
	set := func(registry, username, password string) error {
		_, err := client.SetRegistryCredential(t.Context(), &pods.SetRegistryCredentialRequest{Registry: registry, Username: username, Password: password})
		return err
	}
	for _, one := range [][3]string{{"docker.io", "me", "old"}, {"registry.example.org:5000/team", "you", "p:w\n\"x"}, {"docker.io", "me", "s3cret"}} {
		if err := set(one[0], one[1], one[2]); err != nil {
			t.Fatal(err)
		}
	}
	if err := (&vault{kept: v.kept, given: v.given}).give(); err != nil { // podd after a reboot
		t.Fatal(err)
	}
	var file struct {
		Auths map[string]struct{ Username, Password string }
	}
	text, err := os.ReadFile(v.given)
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	if a := file.Auths["https://index.docker.io/v1/"]; len(file.Auths) != 2 || a.Username != "me" || a.Password != "s3cret" {
		t.Errorf("%s", text)
	}
	if a := file.Auths["registry.example.org:5000/team"]; a.Password != "p:w\n\"x" {
		t.Errorf("%s", text)
	}
	for path, want := range map[string]os.FileMode{v.kept: 0o600, v.given: 0o640} {
		if i, err := os.Stat(path); err != nil || i.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, i.Mode(), err)
		}
	}

	listed, err := client.ListRegistryCredentials(t.Context(), &pods.ListRegistryCredentialsRequest{})
	if err != nil || len(listed.Credentials) != 2 || listed.Credentials[0].Registry != "docker.io" || strings.Contains(listed.String(), "s3cret") {
		t.Errorf("%v, %v", listed, err)
	}
	for _, wrong := range [][3]string{{"https://a", "me", "p"}, {"docker.io", "", "p"}, {"docker.io", "a:b", "p"}, {"docker.io", "me", ""}, {"docker.io", "me", strings.Repeat("p", maxPassword+1)}, {"docker.io", "me", "\x00"}} {
		err := set(wrong[0], wrong[1], wrong[2])
		if status.Code(err) != codes.InvalidArgument || wrong[2] != "p" && wrong[2] != "" && strings.Contains(err.Error(), wrong[2]) {
			t.Errorf("%q: %v", wrong, err)
		}
	}

	remove := func(registry string) error {
		_, err := client.RemoveRegistryCredential(t.Context(), &pods.RemoveRegistryCredentialRequest{Registry: registry})
		return err
	}
	if err := remove("quay.io"); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	if err := remove("docker.io"); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(v.given); err != nil || strings.Contains(string(text), "s3cret") {
		t.Errorf("it is still given: %s, %v", text, err)
	}

	for n := range maxCredentials - 1 {
		if err := set(fmt.Sprintf("r%d.example.org", n), "me", "p"); err != nil {
			t.Fatal(err)
		}
	}
	if err := set("one-more.example.org", "me", "p"); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
	if err := set("r0.example.org", "me", "new"); err != nil {
		t.Errorf("one is replaced: %v", err)
	}

	// A damaged file is not written over.
	if err := os.WriteFile(v.kept, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := set("docker.io", "me", "p"); status.Code(err) != codes.Internal {
		t.Error(err)
	}
}
