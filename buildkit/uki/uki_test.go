package uki

import (
	"bytes"
	"debug/pe"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// parts use the real stub and, for a kernel, just what makes a file look like one.
func parts(t *testing.T) Parts {
	t.Helper()
	stub, err := os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	if err != nil {
		t.Fatal(err)
	}
	kernel := bytes.Repeat([]byte("kernel! "), 10_000)
	copy(kernel, "MZ")
	copy(kernel[0x202:], "HdrS")
	return Parts{stub, kernel, "6.12.0-dactyl", "root=/dev/dm-0 quiet", "ID=dactyl\nVERSION_ID=1.0\n"}
}

func TestSectionsHoldThePartsAndDoNotOverlap(t *testing.T) {
	p := parts(t)
	b, err := Make(p)
	if err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var memory, file uint32
	for _, s := range f.Sections {
		if s.VirtualAddress < memory || s.Offset < file {
			t.Errorf("section %s overlaps the one before it", s.Name)
		}
		memory, file = s.VirtualAddress+s.VirtualSize, s.Offset+s.Size
	}
	if size := f.OptionalHeader.(*pe.OptionalHeader64).SizeOfImage; size < memory {
		t.Errorf("the image has %d bytes of memory, its sections %d", size, memory)
	}
	for name, want := range map[string]string{
		".osrel": p.OSRelease, ".cmdline": p.CommandLine + "\x00", ".uname": p.KernelRelease, ".linux": string(p.Kernel),
	} {
		got, err := f.Section(name).Data()
		if err != nil || string(got[:f.Section(name).VirtualSize]) != want {
			t.Errorf("section %s does not hold what was put in (%v)", name, err)
		}
	}
}

// objdump is the judge of the file as a whole: it must see every section.
func TestObjdumpReadsIt(t *testing.T) {
	b, err := Make(parts(t))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "uki.efi")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("objdump", "-h", name).CombinedOutput()
	if err != nil || strings.Contains(string(out), "warning") {
		t.Fatalf("objdump: %v\n%s", err, out)
	}
	for _, s := range []string{".sdmagic", ".osrel", ".cmdline", ".uname", ".linux"} {
		if !strings.Contains(string(out), s) {
			t.Errorf("objdump does not see %s", s)
		}
	}
}

func TestCommandLineLimit(t *testing.T) {
	p := parts(t)
	p.CommandLine = strings.Repeat("x", maxCommandLine)
	if _, err := Make(p); err != nil {
		t.Errorf("%d bytes: %v", len(p.CommandLine), err)
	}
	p.CommandLine += "LOST"
	if _, err := Make(p); err == nil || !strings.Contains(err.Error(), `drop "LOST"`) {
		t.Errorf("%d bytes: error %v does not say what would be lost", len(p.CommandLine), err)
	}
	p.CommandLine = "root=/dev/dm-0\ninit=/bad"
	if _, err := Make(p); err == nil {
		t.Error("a command line of two lines was accepted")
	}
}

func TestRefusesAKernelThatFirmwareCannotStart(t *testing.T) {
	p := parts(t)
	p.Kernel = []byte("\x7fELF")
	if _, err := Make(p); err == nil {
		t.Error("an ELF file was accepted as the kernel")
	}
}
