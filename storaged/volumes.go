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
	memory     []option // of the tmpfs that stands in for it if there is no disk; none if nothing does
	mayBeLost  bool     // so it is recreated, or is memory, if it will not mount and cannot be repaired
}

// option is a filesystem's option; a flag has no value.
type option struct{ key, value string }

type mountFlags struct{ readOnly, noExec bool }

// ext4Options: an error found while the filesystem is in use stops writing, so
// that it does not spread; data reaches the disk before the metadata that names it.
var ext4Options = []option{{"errors", "remount-ro"}, {"data", "ordered"}}

// volumes in the order in which they are mounted; all are nosuid, nodev, noexec
// and noatime. Containers run from EPHEMERAL, but PID 1 makes their domain mounts of
// its own, in which they may.
var volumes = []volumeSpec{
	{
		volume: boot, label: "ESP", target: "/boot", filesystem: "vfat",
		options: []option{{"uid", "0"}, {"gid", "0"}, {"umask", "0022"}},
		flags:   mountFlags{readOnly: true, noExec: true},
	},
	{
		volume: state, label: "STATE", target: "/state", filesystem: "ext4",
		options: ext4Options, flags: mountFlags{noExec: true},
		memory: []option{{"size", "16m"}, {"mode", "0755"}, {"uid", "0"}, {"gid", "0"}},
	},
	{
		volume: ephemeral, label: "EPHEMERAL", target: "/var", filesystem: "ext4",
		options: ext4Options, flags: mountFlags{noExec: true}, mayBeLost: true,
		memory: []option{{"size", "50%"}, {"mode", "0755"}, {"uid", "0"}, {"gid", "0"}},
	},
}

func specOf(v volume) volumeSpec {
	for _, s := range volumes {
		if s.volume == v {
			return s
		}
	}
	panic("BUG: no volume " + string(v))
}
