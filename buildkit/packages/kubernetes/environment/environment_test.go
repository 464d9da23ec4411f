package environment

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestTake(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "")
	t.Setenv("NO_PROXY", "")
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	for name, text := range map[string]string{good: "HTTPS_PROXY=http://proxy:3128\nNO_PROXY=a,b=c\n", bad: "HTTPS_PROXY\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args, want []string
		fails      bool
	}{
		{args: []string{"containerd", "--config", "x"}, want: []string{"containerd", "--config", "x"}},
		{args: []string{"containerd", "--environment", good, "--config", "x"}, want: []string{"containerd", "--config", "x"}},
		{args: []string{"containerd", "--environment"}, fails: true},
		{args: []string{"containerd", "--environment", bad}, fails: true},
		{args: []string{"containerd", "--environment", filepath.Join(dir, "none")}, fails: true},
	} {
		got, err := Take(c.args)
		if c.fails != (err != nil) || !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, %v", c.args, got, err)
		}
	}
	if os.Getenv("HTTPS_PROXY") != "http://proxy:3128" || os.Getenv("NO_PROXY") != "a,b=c" {
		t.Errorf("%q, %q", os.Getenv("HTTPS_PROXY"), os.Getenv("NO_PROXY"))
	}
}
