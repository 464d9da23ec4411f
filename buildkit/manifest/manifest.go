package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Manifest is one daemon.toml. Maps go from the right to its reason, but for Env.
type Manifest struct {
	Path string `toml:"-"` // of the file, for messages

	Name     string `toml:"name"`
	User     uint32 `toml:"user"`
	Tier     int    `toml:"tier"`
	Provides string `toml:"provides"` // short name of a service
	Only     string `toml:"only"`     // image mode; empty = every image
	Gateway  string `toml:"gateway"`  // reason to call every method that has a role
	Logs     string `toml:"logs"`     // reason to read every daemon's log
	Request  string `toml:"request"`  // reason to start only when somebody asks PID 1 to
	Last     string `toml:"last"`     // reason to start at boot only when nobody else is starting
	Alone    string `toml:"alone"`    // reason why two processes cannot run side by side
	Domain   string `toml:"domain"`   // runs in the namespaces of this daemon's first process; its own name: it makes them

	Program string            `toml:"program"` // file on the machine that others wrote; empty: the folder's own
	At      string            `toml:"at"`      // where it is in its own root; empty: as on the machine
	Args    []string          `toml:"args"`
	Env     map[string]string `toml:"env"`
	Run     map[string]string `toml:"run"` // paths from which it starts programs: a domain's program at any time, a daemon of ours before it seals itself

	Calls        map[string][]string `toml:"calls"`
	From         map[string]string   `toml:"from"` // daemons that write files for it
	Capabilities map[string]string   `toml:"capabilities"`
	Devices      map[string]string   `toml:"devices"`
	Read         map[string]string   `toml:"read"`
	Write        map[string]any      `toml:"write"` // to a reason, or to how long it lives and the reason
	Mount        map[string]string   `toml:"mount"`
	Network      map[string]string   `toml:"network"`
	Listen       map[string]string   `toml:"listen"`
	Syscalls     map[string]string   `toml:"syscalls"`
	Limits       Limits              `toml:"limits"`

	directories map[string]directory // Write, read
}

// Limits are what a daemon may use at most.
type Limits struct {
	Memory string `toml:"memory"` // "64MiB"; "none" in a domain
	PIDs   int64  `toml:"pids"`   // processes and threads; 0, no limit, in a domain
	Files  int64  `toml:"files"`  // open at once; 0: as many as small daemons have
	Stop   string `toml:"stop"`   // "30s" from SIGTERM to SIGKILL; empty: abi.StopTimeout
}

// Parse reads one daemon.toml. path is for messages only.
func Parse(path string, text []byte) (*Manifest, error) {
	m := &Manifest{Path: path}
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, describe(path, err)
	}
	return m, m.readDirectories()
}

// describe turns the decoder's errors into one line with file, line, column
// and what would be right.
func describe(path string, err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		e := unknown.Errors[0]
		row, col := e.Position()
		return fmt.Errorf("%s:%d:%d: unknown key %q: a daemon.toml knows %s", path, row, col, strings.Join(e.Key(), "."), knownKeys)
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, col := bad.Position()
		return fmt.Errorf("%s:%d:%d: %s", path, row, col, strings.TrimPrefix(bad.Error(), "toml: "))
	}
	return fmt.Errorf("%s: %w", path, err)
}

const knownKeys = "name, user, tier, provides, only, gateway, logs, request, alone, domain, program, at, args, [env], [run], [calls], [from], [capabilities], [devices], [read], [write], [mount], [network], [listen], [syscalls], [limits]"

// Foreign tells whether others wrote the program: buildkit/packages builds it.
func (m *Manifest) Foreign() bool { return m.Program != "" }

// Programs are the paths in the image from which m starts programs that others wrote.
func (m *Manifest) Programs() []string {
	if !m.Foreign() {
		return sortedKeys(m.Run)
	}
	return append([]string{m.Program}, sortedKeys(m.Run)...)
}

// leads tells whether m makes its domain.
func (m *Manifest) leads() bool { return m.Domain != "" && m.Domain == m.Name }

// follows tells whether m runs in a domain that another makes.
func (m *Manifest) follows() bool { return m.Domain != "" && m.Domain != m.Name }

// rightTable is one table whose keys are rights and whose values are reasons.
type rightTable struct {
	name   string
	rights map[string]string
}

// tables are all of them, in the order in which people read them.
func (m *Manifest) tables() []rightTable {
	return []rightTable{
		{"from", m.From}, {"capabilities", m.Capabilities}, {"devices", m.Devices}, {"run", m.Run}, {"read", m.Read},
		{"write", reasons(m.directories)}, {"mount", m.Mount}, {"network", m.Network}, {"listen", m.Listen}, {"syscalls", m.Syscalls},
	}
}

// Folders are where daemons live, as globs from the repository's root.
var Folders = []string{"networkd", "storaged", "trustd", "kubed", "daemons/*", "buildkit/packages/units/*", "test/boot/*/*d"}

// Load reads the daemon.toml of every daemon under root whose mode fits.
func Load(root, mode string) ([]*Manifest, error) {
	var all []*Manifest
	for _, folder := range Folders {
		paths, err := filepath.Glob(filepath.Join(root, folder, "daemon.toml"))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			short, _ := filepath.Rel(root, path)
			m, err := Parse(short, text)
			if err != nil {
				return nil, err
			}
			if inMode(m.Only, mode) {
				all = append(all, m)
			}
		}
	}
	return all, nil
}

// inMode tells whether what is only for one mode is in an image of another: a
// test image has all that a development image has.
func inMode(only, mode string) bool {
	return only == "" || only == mode || only == "dev" && mode == "test"
}

// Tags are the build tags of every program in an image of the given mode.
// grpcnotrace leaves out gRPC's tracing pages, which would bring a web server's
// templates and turn off the linker's dead-code elimination.
func Tags(mode string) string {
	t := []string{"netgo", "osusergo", "grpcnotrace"}
	switch mode {
	case "dev":
		t = append(t, "dev")
	case "test":
		t = append(t, "dev", "test")
	}
	return strings.Join(t, ",")
}
