package main

// volume is one of the system's filesystems.
type volume string

const (
	root      volume = "root" // the image itself; the kernel mounted it
	boot      volume = "boot"
	state     volume = "state"
	ephemeral volume = "ephemeral"
)

// volumeSpec says how a volume is found and mounted.
type volumeSpec struct {
	volume     volume
	label      string // GPT name of its partition
	target     string
	filesystem string
	options    []option
	flags      mountFlags
	memory     []option // of the tmpfs that may stand in for it; none if nothing may
}

// option is a filesystem's option; a flag has no value.
type option struct{ key, value string }

type mountFlags struct{ readOnly, noExec bool }

// ext4Options: an error found while the filesystem is in use stops writing, so
// that it does not spread; data reaches the disk before the metadata that names it.
var ext4Options = []option{{"errors", "remount-ro"}, {"data", "ordered"}}

// volumes in the order in which they are mounted; all are nosuid, nodev and
// noatime. Containers' files are run from EPHEMERAL, so it is not noexec.
var volumes = []volumeSpec{
	{boot, "ESP", "/boot", "vfat", []option{{"uid", "0"}, {"gid", "0"}, {"umask", "0022"}}, mountFlags{readOnly: true, noExec: true}, nil},
	{state, "STATE", "/state", "ext4", ext4Options, mountFlags{noExec: true}, []option{{"size", "16m"}, {"mode", "0755"}, {"uid", "0"}, {"gid", "0"}}},
	{ephemeral, "EPHEMERAL", "/var", "ext4", ext4Options, mountFlags{}, []option{{"size", "50%"}, {"mode", "0755"}, {"uid", "0"}, {"gid", "0"}}},
}

func specOf(v volume) volumeSpec {
	for _, s := range volumes {
		if s.volume == v {
			return s
		}
	}
	panic("BUG: no volume " + string(v))
}
