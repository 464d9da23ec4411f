package uki

import (
	"bytes"
	"fmt"
	"strings"
)

// maxCommandLine is x86's COMMAND_LINE_SIZE without the final NUL. The kernel cuts
// what is longer off, silently: the end of the verity table, or of the hardening.
const maxCommandLine = 2047

// Parts are what an image is made of.
type Parts struct {
	Stub          []byte // linuxx64.efi.stub
	Kernel        []byte // bzImage with an EFI stub
	KernelRelease string // as uname -r says it
	CommandLine   string // ASCII, at most 2047 bytes
	OSRelease     string // lines of os-release(5)
}

// Make assembles the image, unsigned. The same parts give the same bytes.
func Make(p Parts) ([]byte, error) {
	if err := checkCommandLine(p.CommandLine); err != nil {
		return nil, err
	}
	if err := checkKernel(p.Kernel); err != nil {
		return nil, err
	}
	image, err := parse(p.Stub)
	if err != nil {
		return nil, fmt.Errorf("uki: EFI stub: %w", err)
	}
	for _, s := range []section{
		{".osrel", []byte(p.OSRelease)},
		{".cmdline", append([]byte(p.CommandLine), 0)},
		{".uname", []byte(p.KernelRelease)},
		{".linux", p.Kernel},
	} {
		if err := image.append(s); err != nil {
			return nil, fmt.Errorf("uki: section %s: %w", s.name, err)
		}
	}
	return image.b, nil
}

func checkCommandLine(s string) error {
	if len(s) > maxCommandLine {
		return fmt.Errorf("uki: the command line has %d bytes, the kernel takes %d and would drop %q",
			len(s), maxCommandLine, s[maxCommandLine:])
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return fmt.Errorf("uki: the command line has %q at byte %d, want printable ASCII", s[i:i+1], i)
	}
	return nil
}

// checkKernel looks for the two headers that the EFI stub will: a kernel without
// CONFIG_EFI_STUB is no PE file.
func checkKernel(b []byte) error {
	const bootSignature = 0x202 // "HdrS" in a bzImage
	if !bytes.HasPrefix(b, []byte("MZ")) || len(b) < bootSignature+4 || string(b[bootSignature:bootSignature+4]) != "HdrS" {
		return fmt.Errorf("uki: the kernel (%d bytes) is not a bzImage with an EFI stub", len(b))
	}
	return nil
}
