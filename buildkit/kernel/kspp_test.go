package kernel

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// leastFollowed is the promise of this kernel: of the list's 356 lines at most
// sixteen are deviated from.
const leastFollowed = 340

// advice is one line of testdata/kspp.txt.
type advice struct{ where, who, what string }

func (a advice) String() string { return a.where + " " + a.what }

func readAdvice(t *testing.T) []advice {
	text, err := os.ReadFile("testdata/kspp.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []advice
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if len(f) != 3 {
			t.Fatalf("testdata/kspp.txt: %q is not where, who, what", line)
		}
		a := advice{f[0], f[1], f[2]}
		if seen[a.String()] {
			t.Fatalf("testdata/kspp.txt: %s twice", a)
		}
		seen[a.String()] = true
		all = append(all, a)
	}
	return all
}

// met reports whether the advice is followed word by word.
func (a advice) met(c Config) bool {
	switch a.where {
	case "config":
		return meets(a.what, func(name string) (string, bool) { return c.Get(name), true })
	case "cmdline":
		return meets(a.what, func(name string) (string, bool) {
			i := slices.IndexFunc(Hardening, func(p Param) bool { return p.Name == name })
			if i < 0 {
				return "", false
			}
			return Hardening[i].Value, true
		})
	case "sysctl":
		return meets(a.what, func(name string) (string, bool) {
			i := slices.IndexFunc(Sysctls, func(s Sysctl) bool { return s.Key == name })
			if i < 0 {
				return "", false
			}
			return Sysctls[i].Value, true
		})
	}
	panic("BUG: advice for " + a.where)
}

// meets holds one expectation against what get returns.
func meets(what string, get func(string) (value string, ok bool)) bool {
	if name, ok := strings.CutPrefix(what, "!"); ok {
		_, there := get(name)
		return !there
	}
	if name, not, ok := strings.Cut(what, "!="); ok {
		v, there := get(name)
		return there && v != not
	}
	if name, part, ok := strings.Cut(what, "~"); ok {
		v, there := get(name)
		return there && strings.Contains(v, part)
	}
	name, want, _ := strings.Cut(what, "=")
	v, there := get(name)
	return there && v == want
}

// TestAdvice holds the kernel against the lists of the field. Its output is the
// count that the documentation may quote.
func TestAdvice(t *testing.T) {
	c := resolvedConfig(t)
	known := kconfigNames(t)
	exceptions := map[string]Exception{}
	for _, e := range Exceptions {
		if _, twice := exceptions[e.Setting]; twice {
			t.Errorf("exceptions.go has %q twice", e.Setting)
		}
		if e.Reason == "" {
			t.Errorf("exceptions.go gives no reason for %q", e.Setting)
		}
		exceptions[e.Setting] = e
	}
	all := readAdvice(t)
	count := map[Kind]int{}
	for _, a := range all {
		e, excepted := exceptions[a.String()]
		delete(exceptions, a.String())
		switch {
		case a.met(c) && excepted:
			t.Errorf("%s is followed: remove it from exceptions.go", a)
		case a.met(c):
			count[0]++
		case !excepted:
			t.Errorf("%s (%s) is not followed and exceptions.go gives no reason", a, a.who)
		default:
			count[e.Kind]++
			checkException(t, e, c, known)
		}
	}
	for setting := range exceptions {
		t.Errorf("exceptions.go excepts %q, which no list asks for", setting)
	}
	followed := len(all) - count[Deviates]
	t.Logf("%d of %d followed: %d word by word, %d implied by something stricter, %d under no name or another one in this kernel; %d deviations",
		followed, len(all), count[0], count[Implied], count[Absent], count[Deviates])
	if followed < leastFollowed {
		t.Errorf("%d of %d followed, at least %d are promised", followed, len(all), leastFollowed)
	}
}

func checkException(t *testing.T, e Exception, c Config, known map[string]bool) {
	if !c.Has(e.Proof) {
		t.Errorf("%s: exceptions.go builds on %q, which does not hold", e.Setting, e.Proof)
	}
	if e.Kind == Implied && e.Proof == "" {
		t.Errorf("%s: implied by what?", e.Setting)
	}
	if name, ok := strings.CutPrefix(e.Setting, "config "); ok && e.Kind == Absent {
		name, _, _ = strings.Cut(name, "=")
		if known[name] {
			t.Errorf("%s: this kernel does have the name", e.Setting)
		}
	}
}

// kconfigNames collects every option that the kernel's source defines.
func kconfigNames(t *testing.T) map[string]bool {
	src, err := Source(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	definition := regexp.MustCompile(`(?m)^(?:menu)?config[ \t]+(\w+)`)
	names := map[string]bool{}
	for _, top := range []string{"arch/x86", "block", "crypto", "drivers", "fs", "init", "io_uring", "kernel", "lib", "mm", "net", "security", "virt", "arch/Kconfig"} {
		err := filepath.WalkDir(filepath.Join(src, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasPrefix(d.Name(), "Kconfig") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range definition.FindAllSubmatch(text, -1) {
				names[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(names) < 10000 {
		t.Fatalf("only %d options found in %s", len(names), src)
	}
	return names
}

// resolvedConfig is what Kconfig makes of the fragments. It needs the kernel's
// source but compiles nothing of it.
func resolvedConfig(t *testing.T) Config {
	t.Helper()
	if _, err := os.Stat(sourceTarball); err != nil {
		t.Skipf("needs Debian's linux-source-6.12: %v", err)
	}
	var progress bytes.Buffer
	r, err := ResolveConfig(t.Context(), "", &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	c, err := ReadConfig(r.Config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The forms of expectation, each once kept and once broken.
func TestMeets(t *testing.T) {
	have := map[string]string{"on": "y", "list": "lockdown,yama", "flag": ""}
	get := func(name string) (string, bool) { v, ok := have[name]; return v, ok }
	for _, c := range []struct {
		what string
		want bool
	}{
		{"on=y", true}, {"on=n", false}, {"gone=y", false},
		{"on!=off", true}, {"on!=y", false}, {"gone!=off", false},
		{"list~yama", true}, {"list~selinux", false}, {"gone~x", false},
		{"!gone", true}, {"!on", false},
		{"flag", true}, {"gone", false},
	} {
		if got := meets(c.what, get); got != c.want {
			t.Errorf("meets(%q) = %v", c.what, got)
		}
	}
}
