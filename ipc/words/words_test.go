package words_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/dactyl-os/dactyl/ipc/config" // registers NodeRole
	_ "github.com/dactyl-os/dactyl/ipc/kube"   // registers ClusterState
	"github.com/dactyl-os/dactyl/ipc/machine"
	_ "github.com/dactyl-os/dactyl/ipc/pods" // registers PodState and ContainerState
	"github.com/dactyl-os/dactyl/ipc/words"
)

func TestOf(t *testing.T) {
	for value, want := range map[machine.DaemonState]string{
		machine.DaemonState_DAEMON_STATE_UNSPECIFIED: "",
		machine.DaemonState_DAEMON_STATE_UP:          "up",
		machine.DaemonState_DAEMON_STATE_GAVE_UP:     "gave-up",
		99:                                           "99", // of a later version
	} {
		if got := words.Of(value); got != want {
			t.Errorf("%v is %q, want %q", value, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]machine.DaemonState{
		"gave-up": machine.DaemonState_DAEMON_STATE_GAVE_UP,
		"up":      machine.DaemonState_DAEMON_STATE_UP,
	} {
		if got, ok := words.Parse[machine.DaemonState](text); !ok || got != want {
			t.Errorf("%q is %v %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "unspecified", "UP", "gave_up", "DAEMON_STATE_UP", "2"} {
		if got, ok := words.Parse[machine.DaemonState](text); ok || got != 0 {
			t.Errorf("%q is %v, want none", text, got)
		}
	}
}

func TestAll(t *testing.T) {
	if got := words.All(machine.DaemonState(0).Descriptor()); !slices.Equal(got, []string{"down", "idle", "starting", "up", "stopping", "backoff", "gave-up", "done"}) {
		t.Errorf("the words are %v", got)
	}
}

// TestNames: an older reader of a message sees a new value as the value 0 or as a number,
// so 0 must say nothing, and words are derived from names, which must have their form.
func TestNames(t *testing.T) {
	var seen int
	protoregistry.GlobalTypes.RangeEnums(func(e protoreflect.EnumType) bool {
		d := e.Descriptor()
		if !strings.HasPrefix(string(d.FullName()), "dactyl.") {
			return true
		}
		seen++
		for i := range d.Values().Len() {
			v := d.Values().Get(i)
			if !strings.HasPrefix(string(v.Name()), words.Prefix(d)) {
				t.Errorf("%s: the name of %s does not begin with %s", d.FullName(), v.Name(), words.Prefix(d))
			}
			if unspecified := string(v.Name()) == words.Prefix(d)+"UNSPECIFIED"; unspecified != (v.Number() == 0) {
				t.Errorf("%s: %s has the number %d: %sUNSPECIFIED has 0, and nothing else has", d.FullName(), v.Name(), v.Number(), words.Prefix(d))
			}
		}
		all := words.All(d)
		if slices.Sort(all); len(slices.Compact(slices.Clone(all))) != len(all) {
			t.Errorf("%s: two values are the same word: %v", d.FullName(), all)
		}
		return true
	})
	if seen == 0 {
		t.Error("no enum is registered: which packages does this test import?")
	}
}
