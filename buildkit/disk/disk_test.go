package disk

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var epoch = time.Unix(1700000000, 0)

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command("/usr/sbin/"+name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestSgdiskAcceptsTheTable(t *testing.T) {
	dir := t.TempDir()
	content := filepath.Join(dir, "content")
	if err := os.WriteFile(content, []byte("the content"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "disk")
	size, err := Write(out, NewGUID("disk"), []Partition{
		{Name: "ESP", Type: TypeESP, UUID: NewGUID("one"), Size: 3 * Alignment},
		{Name: "ROOT-A", Type: TypeRoot, UUID: "00112233-4455-6677-8899-aabbccddeeff", Size: 2 * Alignment, Content: content},
	})
	if err != nil || size != 7*Alignment {
		t.Fatalf("%d bytes, %v; want %d", size, err, 7*Alignment)
	}
	if got := tool(t, "sgdisk", "-v", out); !strings.Contains(got, "No problems found") {
		t.Errorf("sgdisk -v: %s", got)
	}
	got := tool(t, "sgdisk", "-i", "2", out)
	for _, want := range []string{
		"00112233-4455-6677-8899-AABBCCDDEEFF", "(Linux x86-64 root (/))", "'ROOT-A'",
		"First sector: 8192", "Last sector: 12287",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("sgdisk -i 2 does not say %q:\n%s", want, got)
		}
	}
	b, err := os.ReadFile(out)
	if err != nil || !bytes.HasPrefix(b[4*Alignment:], []byte("the content")) {
		t.Errorf("the content is not at the partition's start (%v)", err)
	}
}

func TestRefusesWhatDoesNotFit(t *testing.T) {
	content := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(content, make([]byte, Alignment+1), 0o644); err != nil {
		t.Fatal(err)
	}
	good := Partition{Name: "P", Type: TypeData, UUID: NewGUID("p"), Size: Alignment}
	for why, spoil := range map[string]func(p *Partition){
		"content":      func(p *Partition) { p.Content = content },
		"alignment":    func(p *Partition) { p.Size++ },
		"name":         func(p *Partition) { p.Name = strings.Repeat("x", 37) },
		"identifier":   func(p *Partition) { p.UUID = "p" },
		"no such file": func(p *Partition) { p.Content = "/nowhere" },
	} {
		p := good
		spoil(&p)
		if _, err := Write(filepath.Join(t.TempDir(), "disk"), NewGUID("d"), []Partition{p}); err == nil {
			t.Errorf("%s: accepted", why)
		}
	}
}

// Made twice, checked by the filesystems' own tools, and grown to a disk's size as a
// machine's first boot does.
func TestFilesystems(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("a file"), 0o644); err != nil {
		t.Fatal(err)
	}
	twice := func(name string, make func(out string) error) string {
		var got [2][]byte
		out := filepath.Join(dir, name)
		for i := range got {
			if err := make(out); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			got[i] = b
			time.Sleep(time.Second) // so that a clock that gets in shows
		}
		if !bytes.Equal(got[0], got[1]) {
			t.Errorf("%s: made twice, different bytes", name)
		}
		return out
	}
	ctx := context.Background()
	esp := twice("esp", func(out string) error {
		return MakeESP(ctx, out, 64<<20, []File{{"EFI/Linux/a-long-name.efi", file}, {"loader/loader.conf", file}}, epoch)
	})
	tool(t, "fsck.vfat", "-n", esp)
	state := twice("state", func(out string) error {
		return MakeExt4(ctx, out, Ext4{Label: "STATE", UUID: NewGUID("s"), Size: 64 << 20, Journal: 8 << 20}, epoch)
	})
	tool(t, "e2fsck", "-fn", state)
	ephemeral := twice("ephemeral", func(out string) error {
		return MakeExt4(ctx, out, Ext4{Label: "EPHEMERAL", UUID: NewGUID("e"), Size: 96 << 20, Journal: 32 << 20, GrowTo: 8 << 40}, epoch)
	})
	tool(t, "e2fsck", "-fn", ephemeral)
	if err := os.Truncate(ephemeral, 20<<30); err != nil {
		t.Fatal(err)
	}
	tool(t, "resize2fs", ephemeral)
	tool(t, "e2fsck", "-fn", ephemeral)
}
