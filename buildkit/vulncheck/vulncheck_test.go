package vulncheck

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testTool has a database that says of golang.org/x/sys what each entry's summary tells,
// and was asked nothing before.
func testTool(t *testing.T) tool {
	t.Helper()
	dir, err := filepath.Abs("testdata/db")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOVULNDB", "file://"+dir)
	db, err := OpenDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tool, err := openTool(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	tool.answers = t.TempDir()
	return tool
}

func testProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	out, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./testdata/program").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// Of a stripped program exactly those vulnerabilities count whose code is in it.
func TestCheck(t *testing.T) {
	tool, program := testTool(t), testProgram(t)
	var asked strings.Builder
	found, err := tool.check(t.Context(), []string{program}, &asked)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, f := range found {
		ids = append(ids, f.ID)
		if f.Module != "golang.org/x/sys" || f.Version == "" || f.Summary == "" || len(f.Symbols) == 0 {
			t.Errorf("%+v", f)
		}
	}
	if got := strings.Join(ids, " "); got != "GO-1999-0001 GO-1999-0002 GO-1999-0005 GO-1999-0007" {
		t.Errorf("found %s\n%v", got, found)
	}
	if found, err := tool.check(t.Context(), []string{program}, &asked); err != nil || len(found) != 4 {
		t.Errorf("the second time: %v, %v", found, err)
	}
	if n := strings.Count(asked.String(), "\n"); n != 1 {
		t.Errorf("govulncheck was asked %d times about one program", n)
	}
}

func TestNoDatabase(t *testing.T) {
	t.Setenv("GOVULNDB", "file://"+t.TempDir())
	if _, err := OpenDatabase(t.Context()); !errors.Is(err, ErrNoDatabase) {
		t.Errorf("an empty directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	t.Setenv("GOVULNDB", "https://127.0.0.1:1")
	if _, err := OpenDatabase(ctx); !errors.Is(err, ErrNoDatabase) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestJudge(t *testing.T) {
	found := []Finding{{ID: "GO-1", Module: "a"}, {ID: "GO-2", Module: "a"}}
	today := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		exceptions []Exception
		left       int
		wrong      string // "" for none
	}{
		"none":           {nil, 2, ""},
		"holds":          {[]Exception{{"GO-1", "a", "because", "2026-12-31"}}, 1, ""},
		"its last day":   {[]Exception{{"GO-1", "a", "because", "2026-11-22"}}, 1, ""},
		"is over":        {[]Exception{{"GO-1", "a", "because", "2026-11-21"}}, 2, ""},
		"another module": {[]Exception{{"GO-1", "b", "because", "2026-12-31"}}, 2, "nothing needs it"},
		"no reason":      {[]Exception{{"GO-1", "a", "", "2026-12-31"}}, 1, "has no reason"},
		"no end":         {[]Exception{{"GO-1", "a", "because", "never"}}, 2, "exception GO-1"},
	} {
		left, wrong := judge(found, c.exceptions, today)
		if len(left) != c.left || len(wrong) > 1 || (len(wrong) == 1) != (c.wrong != "") {
			t.Errorf("%s: left %v, wrong %v", name, left, wrong)
			continue
		}
		if len(wrong) == 1 && !strings.Contains(wrong[0].Error(), c.wrong) {
			t.Errorf("%s: %v", name, wrong[0])
		}
	}
}

// What is listed now has reasons and ends, half a year away at most.
func TestExceptions(t *testing.T) {
	for _, e := range Exceptions {
		end, err := time.Parse(time.DateOnly, e.Until)
		if err != nil || e.Reason == "" || time.Until(end) > 190*24*time.Hour {
			t.Errorf("%+v", e)
		}
	}
}

func TestNames(t *testing.T) {
	table := functions("\x00gopkg.in/yaml%2ev3.(*Decoder).Decode\x00a/b.Run.func1\x00a/b.Map[...]\x00a/b.(*List[...]).Push\x00")
	for _, c := range []struct {
		pkg, receiver, name string
		want                bool
	}{
		{"gopkg.in/yaml.v3", "Decoder", "Decode", true},
		{"gopkg.in/yaml.v3", "*Decoder", "Decode", true},
		{"gopkg.in/yaml.v3", "Decoder", "De", false},
		{"gopkg.in/yaml.v3", "", "", true},
		{"gopkg.in/yaml.v3", "", "gopkg.in/yaml.v3/*", true},
		{"gopkg.in/yaml.v2", "", "", false},
		{"a/b", "", "Run", true},
		{"a/b", "", "Ru", false},
		{"a/b", "", "Map", true},
		{"a/b", "List", "Push", true},
	} {
		if got := table.has(c.pkg, c.receiver, c.name); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// What is no program is no reason to say that nothing is wrong with it.
func TestNotAProgram(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("words"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := testTool(t).check(t.Context(), []string{text}, io.Discard); err == nil {
		t.Error("no error")
	}
}
