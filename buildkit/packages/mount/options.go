package main

import (
	"errors"
	"strings"
	"syscall"
)

// command is what mount was asked for.
type command struct {
	source, target, fstype string
	set                    uintptr  // flags of mount(2), without propagation
	propagation            uintptr  // MS_SHARED and its like, with or without MS_REC
	data                   []string // what only the filesystem understands
}

// call is one mount(2).
type call struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

const (
	lazytime    = 1 << 25 // MS_LAZYTIME, which package syscall lacks
	nosymfollow = 1 << 8  // MS_NOSYMFOLLOW
)

// flags are the options that set or clear flags of mount(2).
var flags = map[string]struct{ set, clear uintptr }{
	"bind":        {set: syscall.MS_BIND},
	"rbind":       {set: syscall.MS_BIND | syscall.MS_REC},
	"remount":     {set: syscall.MS_REMOUNT},
	"ro":          {set: syscall.MS_RDONLY},
	"rw":          {clear: syscall.MS_RDONLY},
	"nosuid":      {set: syscall.MS_NOSUID},
	"suid":        {clear: syscall.MS_NOSUID},
	"nodev":       {set: syscall.MS_NODEV},
	"dev":         {clear: syscall.MS_NODEV},
	"noexec":      {set: syscall.MS_NOEXEC},
	"exec":        {clear: syscall.MS_NOEXEC},
	"sync":        {set: syscall.MS_SYNCHRONOUS},
	"async":       {clear: syscall.MS_SYNCHRONOUS},
	"dirsync":     {set: syscall.MS_DIRSYNC},
	"noatime":     {set: syscall.MS_NOATIME},
	"atime":       {clear: syscall.MS_NOATIME},
	"nodiratime":  {set: syscall.MS_NODIRATIME},
	"diratime":    {clear: syscall.MS_NODIRATIME},
	"relatime":    {set: syscall.MS_RELATIME},
	"norelatime":  {clear: syscall.MS_RELATIME},
	"strictatime": {set: syscall.MS_STRICTATIME},
	"lazytime":    {set: lazytime},
	"nolazytime":  {clear: lazytime},
	"nosymfollow": {set: nosymfollow},
	"silent":      {set: syscall.MS_SILENT},
	"loud":        {clear: syscall.MS_SILENT},
	// For other programs than this one.
	"defaults": {}, "_netdev": {}, "nofail": {}, "auto": {}, "noauto": {},
}

// propagations are the options that say how mounts below reach other namespaces. The
// kernel takes each in a call of its own.
var propagations = map[string]uintptr{
	"shared": syscall.MS_SHARED, "rshared": syscall.MS_SHARED | syscall.MS_REC,
	"slave": syscall.MS_SLAVE, "rslave": syscall.MS_SLAVE | syscall.MS_REC,
	"private": syscall.MS_PRIVATE, "rprivate": syscall.MS_PRIVATE | syscall.MS_REC,
	"unbindable": syscall.MS_UNBINDABLE, "runbindable": syscall.MS_UNBINDABLE | syscall.MS_REC,
}

func parse(args []string) (command, error) {
	usage := wrong("mount [--no-canonicalize] [-t TYPE] [-o OPTION,…]… [SOURCE] TARGET")
	var c command
	var paths []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--no-canonicalize": // paths are never changed
		case (arg == "-t" || arg == "-o") && len(args) == 0:
			return c, usage
		case arg == "-t":
			c.fstype, args = args[0], args[1:]
		case arg == "-o":
			for _, option := range strings.Split(args[0], ",") {
				c.option(option)
			}
			args = args[1:]
		case strings.HasPrefix(arg, "-"):
			return c, usage
		default:
			paths = append(paths, arg)
		}
	}
	alone := c.set&syscall.MS_REMOUNT != 0 || c.propagation != 0 && c.set&syscall.MS_BIND == 0
	switch {
	case len(paths) == 2:
		c.source, c.target = paths[0], paths[1]
	case len(paths) == 1 && alone:
		c.target = paths[0]
	default:
		return c, usage
	}
	return c, c.check()
}

func (c *command) option(option string) {
	if p, ok := propagations[option]; ok {
		c.propagation = p
		return
	}
	f, ok := flags[option]
	if !ok && option != "" {
		c.data = append(c.data, option)
	}
	c.set = c.set&^f.clear | f.set // the last of two that contradict each other counts
}

// check refuses what this program does not do, where the kernel would only say EINVAL.
func (c *command) check() error {
	for _, option := range c.data {
		if option == "loop" || strings.HasPrefix(option, "loop=") || strings.HasPrefix(option, "offset=") {
			return failure{c.target, errors.New(option + ": there are no loop devices")}
		}
	}
	if c.source != "" && c.fstype == "" && c.set&(syscall.MS_BIND|syscall.MS_REMOUNT) == 0 {
		return failure{c.target, errors.New("which filesystem is it? mount -t TYPE")}
	}
	return nil
}

// calls are what the kernel is asked for, in order. It ignores all other flags of a bind
// mount, so they take a second call, and so does propagation.
func (c *command) calls() []call {
	const binding = syscall.MS_BIND | syscall.MS_REC | syscall.MS_SILENT
	var all []call
	switch {
	case c.set&syscall.MS_BIND != 0 && c.set&syscall.MS_REMOUNT == 0:
		all = append(all, call{source: c.source, target: c.target, flags: c.set & binding})
		if more := c.set &^ binding; more != 0 {
			all = append(all, call{target: c.target, flags: more | syscall.MS_REMOUNT | syscall.MS_BIND})
		}
	case c.set&syscall.MS_REMOUNT != 0 || c.source != "":
		all = append(all, call{c.source, c.target, c.fstype, c.set, strings.Join(c.data, ",")})
	}
	if c.propagation != 0 {
		all = append(all, call{target: c.target, flags: c.propagation})
	}
	return all
}
