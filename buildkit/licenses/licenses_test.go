package licenses

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
)

const repository = "../.."

func readAll(t *testing.T, mode, tags string) []Component {
	t.Helper()
	t.Chdir(repository)
	b, err := manifest.Read(t.Context(), ".", mode)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Read(t.Context(), ".", b, tags)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What we tell people that they take along is what they take along. That Read
// succeeds says the other half: nothing is linked whose licence is unknown or
// reaches over to our programs.
func TestTableIsCurrent(t *testing.T) {
	all := readAll(t, "production", manifest.Tags("production"))
	var want bytes.Buffer
	WriteTable(&want, all)
	have, err := os.ReadFile("docs/licenses.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want.Bytes()) {
		t.Error("docs/licenses.md is not what is linked: run make licenses and look at the difference")
	}
	for _, name := range []string{"Linux", "google.golang.org/grpc", "github.com/containerd/ttrpc"} {
		if !strings.Contains(want.String(), "| "+name+" |") {
			t.Errorf("%s is not in the table", name)
		}
	}
}

func TestTestImageLinksNothingElse(t *testing.T) {
	readAll(t, "test", manifest.Tags("test"))
}

func TestEachTextIsThereOnce(t *testing.T) {
	text := string(Texts([]Component{
		{Name: "a", Texts: []Text{{"LICENSE", "One text.\n"}}},
		{Name: "b", Texts: []Text{{"LICENSE.md", "  One\n text."}}},
		{Name: "c", Texts: []Text{{"LICENSE", "Another text.\n"}}},
	}))
	if strings.Count(text, "One text.") != 1 || strings.Contains(text, "One\n text.") {
		t.Errorf("want equal texts once:\n%s", text)
	}
	if !strings.Contains(text, "a (LICENSE)\nb (LICENSE.md)\n") {
		t.Errorf("want both owners over their text:\n%s", text)
	}
}

func TestWhatMayBeLinked(t *testing.T) {
	gpl, err := embedded("texts/GPL-2.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	apache, err := os.ReadFile(repository + "/LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		texts []Text
		want  string // expression, or part of the error
	}{
		{"permissive", []Text{{"LICENSE", string(apache)}}, "Apache-2.0"},
		{"notice beside it", []Text{{"LICENSE", string(apache)}, {"NOTICE", "Made by us."}}, "Apache-2.0"},
		{"copyleft", []Text{{"COPYING", gpl.Content}}, "GPL-2.0 may not be linked"},
		{"copyleft deeper down", []Text{{"LICENSE", string(apache)}, {"internal/x/LICENSE", gpl.Content}}, "internal/x/LICENSE: GPL-2.0 may not be linked"},
		{"unknown", []Text{{"LICENSE", "You may use this on Sundays."}}, "not a licence that is known"},
		{"only a notice", []Text{{"NOTICE", "Made by us."}}, "no licence file"},
		{"nothing", nil, "no licence file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := expression(c.texts, allowed)
			if err != nil {
				got = err.Error()
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
