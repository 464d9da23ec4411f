// Package abi is what PID 1 and a daemon agree on: descriptors, environment,
// exit codes, and the compiled form of all daemon.toml, which init reads at boot
// and hands each daemon its own part of.
//
// # Descriptors
//
// 0 is /dev/null, 1 and 2 are the daemon's log: a pipe that PID 1 keeps open and
// whose other end logd reads. 3 is Notify. From 4 on come the descriptors
// that Spec.Descriptors names, in that order. (The design speaks of one listening
// socket; there is one for each caller, see package ipc.)
//
// # Notify
//
// The daemon writes one line when it is ready: words of the form key=value
// (landlock=6), ended by a newline. After that every newline is a sign of life;
// PID 1 restarts a daemon that gives none for WatchdogTimeout.
//
// # The end
//
// SIGTERM means: stop accepting, answer what has been asked, exit 0.
package abi

import "time"

// Fixed descriptors.
const (
	NotifyFD = 3
	FirstFD  = 4
)

// SpecEnv is the environment variable that holds the daemon's Spec as JSON.
const SpecEnv = "DACTYL_SPEC"

// Exit codes by class; any other, and a signal, counts as a crash.
const (
	ExitDone          = 0   // finished what it was for: not started again
	ExitMisconfigured = 100 // starting again cannot help
	ExitTemporary     = 111 // start again at once, back off only if it repeats
	ExitUnwanted      = 125 // not wanted on this machine
)

const (
	// ReadyTimeout is how long a new process may take until its ready line; one
	// that replaces another is given up after it.
	ReadyTimeout = 10 * time.Second
	// WatchdogInterval is how often a daemon gives its sign of life.
	WatchdogInterval = 3 * time.Second
	// WatchdogTimeout is how long PID 1 waits for one: a daemon that a loaded
	// machine leaves without processor for a few seconds is not hung.
	WatchdogTimeout = 15 * time.Second
	// StopTimeout is how long a daemon may take after SIGTERM before SIGKILL.
	StopTimeout = 5 * time.Second
)

// Paths on the machine that more than one part knows.
const (
	SystemPath      = "/etc/dactyl/system.json" // System, read by init
	RoutesPath      = "/etc/dactyl/routes.json" // Routes, read by routerd
	DescriptorsPath = "/etc/dactyl/services.pb" // FileDescriptorSet of the services in the image
	SysctlsPath     = "/etc/dactyl/sysctls"     // key=value lines, applied by init
	SocketDir       = "/run/ipc"                // on the machine: one folder per caller; in a daemon: its own
	DaemonDir       = "/lib/dactyl"             // binaries
	ShareDir        = "/run/from"               // GIVER/RECEIVER: files that one daemon makes for another
)

// Mode says which image this is; it stands on the signed command line as
// dactyl.mode= and in System.
type Mode string

const (
	Production  Mode = "production"
	Development Mode = "dev"
	Test        Mode = "test" // development, plus what tests need
)

// System is the compiled form of all daemon.toml.
type System struct {
	Version string   `json:"version"`
	Mode    Mode     `json:"mode"`
	Epoch   int64    `json:"epoch"`   // Unix seconds of the build's sources: the clock is never before it
	Init    Provider `json:"init"`    // what PID 1 itself serves
	Daemons []Daemon `json:"daemons"` // by tier, then name
}

// Provider is one who serves: PID 1 or a daemon.
type Provider struct {
	Services []string `json:"services,omitempty"` // short names: the socket's name and the folder under ipc/
	Callers  []Caller `json:"callers,omitempty"`  // sorted by name
}

// Caller may call these methods of one service.
type Caller struct {
	Name    string   `json:"name"`    // daemon
	Service string   `json:"service"` // short name: network
	Full    string   `json:"full"`    // dactyl.network.v1.Network
	Methods []string `json:"methods"` // sorted
}

// Daemon is one daemon.toml, checked, without its reasons.
type Daemon struct {
	Name string `json:"name"`
	Exec string `json:"exec"` // path of the binary on the machine
	User uint32 `json:"user"` // uid and gid
	Tier int    `json:"tier"`
	Provider
	Capabilities []string `json:"capabilities,omitempty"` // without CAP_, sorted
	Devices      []string `json:"devices,omitempty"`      // patterns of nodes in /dev, copied into the daemon's own /dev with its uid, mode 0600
	Run          []string `json:"run,omitempty"`          // paths bound read-only from which it may start programs; a daemon of ours: before it seals itself
	Read         []string `json:"read,omitempty"`         // paths bound read-only
	Write        []string `json:"write,omitempty"`        // directories bound writable; made with the daemon's uid, mode 0700, when missing
	Emptied      []string `json:"emptied,omitempty"`      // those of Write that PID 1 empties at each boot
	Owned        []Owned  `json:"owned,omitempty"`        // those of Write that PID 1 sets aside on request
	Mount        []string `json:"mount,omitempty"`        // directories bound so that mounts made on them appear on the machine
	Network      string   `json:"network,omitempty"`      // "host", or "" for an empty one of its own
	UserNS       bool     `json:"user_ns,omitempty"`      // derived: no right needs the machine's user namespace
	Listen       []Listen `json:"listen,omitempty"`       // sockets that PID 1 holds for it
	Logs         bool     `json:"logs,omitempty"`         // it gets the reading end of every daemon's log (logd)
	Syscalls     []string `json:"syscalls,omitempty"`     // named sets of daemons/kit beyond the base set
	Limits       Limits   `json:"limits"`

	From      []string `json:"from,omitempty"`       // who writes for it: it reads ShareDir/GIVER/NAME
	Gives     bool     `json:"gives,omitempty"`      // derived: it writes ShareDir/NAME/RECEIVER, one for each that names it in From
	Last      bool     `json:"last,omitempty"`       // started at boot when nobody else is starting
	OnRequest bool     `json:"on_request,omitempty"` // started when somebody asks PID 1 to (StartProgram), not at boot
	Alone     bool     `json:"alone,omitempty"`      // never two processes side by side: a restart stops the first before it starts the second
	Foreign   *Foreign `json:"foreign,omitempty"`    // a program that knows nothing of this package
	Domain    string   `json:"domain,omitempty"`     // it runs in the namespaces that the first process of this name has made; its own name: it is that process
}

// Owned is a directory that can be made again. When Owner cannot start with it, it is
// set aside and the domain begins with an empty one.
type Owned struct {
	Path  string `json:"path"`
	Owner string `json:"owner"` // a program of the same domain
}

// Foreign is what a program needs that others wrote. It gets no Spec and no Notify: it is ready
// once it runs, gives no sign of life, and does not seal itself, so PID 1 does.
type Foreign struct {
	Program string   `json:"program"`          // its file on the machine; Daemon.Exec is where it is in its own root
	Args    []string `json:"args,omitempty"`   // after its name, before those of StartProgram
	Env     []string `json:"env,omitempty"`    // NAME=value
	Filter  []byte   `json:"filter,omitempty"` // seccomp: BPF instructions of 8 bytes, as the kernel takes them; none in a domain
}

// Listen is a network socket that PID 1 binds and hands on.
type Listen struct {
	Network string `json:"network"` // tcp
	Address string `json:"address"` // :7400
}

// Limits are cgroup v2 limits.
type Limits struct {
	MemoryBytes int64 `json:"memory_bytes"`           // 0: none of its own
	PIDs        int64 `json:"pids"`                   // 0: none of its own
	Files       int64 `json:"files,omitempty"`        // open files; 0: the usual few thousand
	StopSeconds int64 `json:"stop_seconds,omitempty"` // from SIGTERM to SIGKILL; 0: StopTimeout
}

// Spec is what a daemon is told of itself.
type Spec struct {
	Daemon
	Mode        Mode         `json:"mode"`
	Version     string       `json:"version"`
	Epoch       int64        `json:"epoch"`                 // System.Epoch
	Descriptors []Descriptor `json:"descriptors,omitempty"` // FirstFD and up, in order
}

// DescriptorKind says what a descriptor is for.
type DescriptorKind string

const (
	IPCSocket     DescriptorKind = "ipc"    // listening unix socket; Name is the caller, Service the short name
	NetworkSocket DescriptorKind = "listen" // listening network socket; Name is Listen's network and address, "tcp:7400"
	LogPipe       DescriptorKind = "log"    // reading end of the log of the daemon Name ("init" for PID 1's own)
)

// Descriptor is one inherited descriptor.
type Descriptor struct {
	Kind    DescriptorKind `json:"kind"`
	Name    string         `json:"name"`
	Service string         `json:"service,omitempty"`
}

// Routes is the gateway's table, sorted by Path.
type Routes struct {
	Routes []Route `json:"routes"`
}

// Route says where an external method goes.
type Route struct {
	Path         string `json:"path"`    // /dactyl.network.v1.Network/ListLinks
	Service      string `json:"service"` // short name = socket under SocketDir
	Role         string `json:"role"`    // reader, operator, admin, anyone
	Idempotent   bool   `json:"idempotent,omitempty"`
	ClientStream bool   `json:"client_stream,omitempty"`
	ServerStream bool   `json:"server_stream,omitempty"`
}
