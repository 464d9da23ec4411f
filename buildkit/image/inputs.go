package image

import (
	"fmt"
	"path"
	"regexp"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/sign"
)

// Mode says what an image is for. It is on the signed command line, as
// "dactyl.mode=", and so cannot be changed on a machine that checks signatures.
type Mode string

const (
	Production  Mode = "production"
	Development Mode = "dev"
	Test        Mode = "test"
)

// Inputs are everything that decides an image's bytes, but for Cache.
type Inputs struct {
	Spec          Spec
	Root          string   // staged root directory
	Kernel        string   // bzImage
	KernelRelease string   // as uname -r says it; "" reads it from the bzImage
	CommandLine   []string // parameters after the spec's, such as the hardening ones
	Version       string   // such as 1.2.0 or 1.2.0-dev.4
	Mode          Mode
	Epoch         time.Time // the time of every file in the image
	Keys          sign.Keys
	ESPFiles      map[string]string // path on the ESP → file on the host

	StubEFI       string // systemd's EFI stub; "" is Debian's
	BootLoaderEFI string // systemd-boot; "" is Debian's

	Cache string // directory for compressed blocks; "" compresses everything anew
}

const efiDir = "/usr/lib/systemd/boot/efi"

// versionForm is what may stand in a file name that systemd-boot sorts by version; a
// "+" would be taken for a boot counter.
var versionForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.~^-]*$`)

func (in *Inputs) check() error {
	switch in.Mode {
	case Production, Development, Test:
	default:
		return fmt.Errorf("image: mode %q: want %s, %s or %s", in.Mode, Production, Development, Test)
	}
	if !versionForm.MatchString(in.Version) {
		return fmt.Errorf("image: version %q: want letters, digits and . ~ ^ -", in.Version)
	}
	if in.Keys.Signer == nil || in.Keys.Certificate == nil {
		return fmt.Errorf("image: no keys to sign with")
	}
	for name := range in.ESPFiles {
		if name != path.Clean(name) || path.IsAbs(name) || name == "." || name[:1] == "." {
			return fmt.Errorf("image: %q is not a path from the ESP's root", name)
		}
	}
	if in.StubEFI == "" {
		in.StubEFI = path.Join(efiDir, "linuxx64.efi.stub")
	}
	if in.BootLoaderEFI == "" {
		in.BootLoaderEFI = path.Join(efiDir, "systemd-bootx64.efi")
	}
	return nil
}

// OSRelease is the system's os-release(5): what the boot menu shows, and for the
// file /etc/os-release of the root.
func OSRelease(version string) string {
	return fmt.Sprintf("ID=dactyl\nNAME=Dactyl\nPRETTY_NAME=\"Dactyl %s\"\nVERSION_ID=%s\n"+
		"IMAGE_ID=dactyl\nIMAGE_VERSION=%s\n", version, version, version)
}
