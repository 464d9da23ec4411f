package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// tables says which enum's values the table of states in a file explains.
var tables = map[string]protoreflect.EnumDescriptor{
	"errors.md":     machine.DaemonState(0).Descriptor(),
	"kubernetes.md": kube.ClusterState(0).Descriptor(),
}

// A table whose first column is "state" names exactly the values of its enum, in their
// order: a new value needs an explanation.
func TestTablesOfStates(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal("no docs", err)
	}
	for _, file := range append(files, "../../README.md", "../../CONTRIBUTING.md") {
		name, found := filepath.Base(file), firstColumns(read(t, file), "state")
		enum := tables[name]
		switch {
		case enum == nil && len(found) > 0:
			t.Errorf("%s has a table of states: add its enum to the list of this test", name)
		case enum != nil && len(found) != 1:
			t.Errorf("%s has %d tables of states, and must have one, of %s", name, len(found), enum.FullName())
		case enum != nil && !slices.Equal(found[0], words.All(enum)):
			t.Errorf("the table of states in %s has %v, and %s has %v", name, found[0], enum.FullName(), words.All(enum))
		}
	}
}

// Sentences that list all values in one line.
func TestListsOfValues(t *testing.T) {
	states := "`STATE` is one of `" + strings.Join(words.All(machine.DaemonState(0).Descriptor()), " ") + "`"
	var roles []string
	for _, w := range words.All(auth.Role(0).Descriptor()) {
		if r, _ := words.Parse[auth.Role](w); r.Issuable() {
			roles = append(roles, "`"+w+"`")
		}
	}
	for file, want := range map[string]string{
		"../../docs/debug-a-daemon.md": states,
		"../../docs/architecture.md":   "Every method names its least role in the `.proto`: " + strings.Join(roles, " < "),
	} {
		if !strings.Contains(read(t, file), want) {
			t.Errorf("%s does not say: %s", filepath.Base(file), want)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var quoted = regexp.MustCompile("^`([^`]+)`$")

// firstColumns returns, of each table whose first column has this header, the cells of the
// column that are quoted as code.
func firstColumns(text, header string) (all [][]string) {
	in := false
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 3 || cells[0] != "" {
			in = false
			continue
		}
		first := strings.TrimSpace(cells[1])
		switch m := quoted.FindStringSubmatch(first); {
		case !in && first == header:
			in, all = true, append(all, nil)
		case in && m != nil:
			all[len(all)-1] = append(all[len(all)-1], m[1])
		}
	}
	return all
}
