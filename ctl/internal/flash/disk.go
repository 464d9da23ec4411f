package flash

import "fmt"

// sectorSize is what the partition table of an image counts in, and the kernel
// in sysfs, whatever the disk's own sectors are.
const sectorSize = 512

// Refused is a reason not to write; nothing has been written.
type Refused struct{ Reason string }

func (r *Refused) Error() string { return r.Reason }

func refuse(format string, a ...any) error { return &Refused{fmt.Sprintf(format, a...)} }

// Disk is what there is to say of a target before it is overwritten.
type Disk struct {
	Path      string
	Name      string // kernel's; empty for a file
	Model     string
	Removable bool
	Bytes     int64

	// identity tells this disk from one that takes its place: device number, and the
	// sequence number that the kernel gives to each disk that is plugged in.
	identity string
}

func (d Disk) checkRoom(image int64) error {
	if d.Bytes < image {
		return refuse("%s is too small: it has %d bytes, the image %d", d.Path, d.Bytes, image)
	}
	return nil
}
