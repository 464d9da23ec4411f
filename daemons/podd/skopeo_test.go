package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Archives that another program has written: skopeo's code for them is podman's and
// buildah's, too.
func TestArchivesOfSkopeo(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("no skopeo here: apt install skopeo")
	}
	p := startContainerd(t)
	client := podd(t, p.c, roomy())
	dir := t.TempDir()
	from := filepath.Join(dir, "from.tar")
	if err := os.WriteFile(from, sleepers(t, typeLayerGzip).oci(annotationRef, "example.org/sleeper:1"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind, ref, given, want string
		args                   []string
	}{
		{"docker-archive", ":example.org/docker:1", "", "example.org/docker:1", nil},
		{"oci-archive", ":example.org/oci:1", "", "example.org/oci:1", nil},
		{"oci-archive", ":1", "example.org/given:1", "example.org/given:1", nil},
		{"oci-archive", ":example.org/zstd:1", "", "example.org/zstd:1", []string{"--dest-compress-format=zstd"}},
		{"oci-archive", ":example.org/schema2:1", "", "example.org/schema2:1", []string{"--format=v2s2"}},
	} {
		t.Run(c.kind+c.ref, func(t *testing.T) {
			to := filepath.Join(dir, "to.tar")
			os.Remove(to)
			args := append(append([]string{"copy"}, c.args...), "oci-archive:"+from, c.kind+":"+to+c.ref)
			if out, err := exec.Command("skopeo", args...).CombinedOutput(); err != nil {
				t.Fatalf("skopeo %q: %v\n%s", args, err, out)
			}
			archive, err := os.ReadFile(to)
			if err != nil {
				t.Fatal(err)
			}
			r, err := upload1(t, client, c.given, archive)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Images[0].Names[0]; got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
