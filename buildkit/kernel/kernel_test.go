package kernel

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// A fragment's line that Kconfig drops, because a dependency is missing or the name
// is wrong, is a wish that nobody hears.
func TestFragmentsHold(t *testing.T) {
	c := resolvedConfig(t)
	base := fragment(t, baseConfig)
	hardening := fragment(t, hardeningConfig)
	for name := range hardening {
		if v, both := base[name]; both && v != hardening[name] {
			t.Errorf("%s is %s in base.config and %s in hardening.config", name, v, hardening[name])
		}
	}
	for _, f := range []Config{base, hardening} {
		for name, want := range f {
			if got := c.Get(name); got != want {
				t.Errorf("CONFIG_%s=%s became %s: a dependency is missing or the name is wrong", name, want, got)
			}
		}
	}
}

func fragment(t *testing.T, text string) Config {
	c, err := parseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// testdata/required.txt says who needs what; an option that went missing is told
// with the reason instead of a pod that does not start.
func TestRequired(t *testing.T) {
	c := resolvedConfig(t)
	text, err := os.ReadFile("testdata/required.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		names, reason, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(reason) == "" {
			t.Errorf("testdata/required.txt: %q gives no reason", line)
		}
		for name := range strings.FieldsSeq(names) {
			if c.Get(name) != "y" {
				t.Errorf("CONFIG_%s is %s:%s", name, c.Get(name), reason)
			}
		}
	}
}

// One file: nothing is loaded later, from a disk or by anybody.
func TestNoModules(t *testing.T) {
	c := resolvedConfig(t)
	for name, v := range c {
		if v == "m" {
			t.Errorf("CONFIG_%s is a module", name)
		}
	}
	for _, name := range []string{"MODULES", "BLK_DEV_INITRD", "BINFMT_MISC"} {
		if c.Get(name) != "n" {
			t.Errorf("CONFIG_%s is %s", name, c.Get(name))
		}
	}
}

func TestCommandLine(t *testing.T) {
	line := CommandLine()
	for _, want := range []string{"lockdown=confidentiality", "slab_nomerge", "mitigations=auto"} {
		if !slices.Contains(strings.Fields(line), want) {
			t.Errorf("%q lacks %s", line, want)
		}
	}
	// The verity table, consoles and a marker for development images come on top;
	// the kernel cuts at 2047 bytes without a word.
	if len(line) > 1100 {
		t.Errorf("%d bytes leave too little room for the rest", len(line))
	}
	line = CommandLine(NoSMT, NoEarlyDMA, AutoPTI)
	for _, want := range []string{"mitigations=auto,nosmt", "nosmt", "pti=auto", "efi=disable_early_pci_dma"} {
		if !slices.Contains(strings.Fields(line), want) {
			t.Errorf("%q lacks %s", line, want)
		}
	}
	if CommandLine() == line || strings.Contains(CommandLine(), "nosmt") {
		t.Error("a choice changed the table for everyone")
	}
}

// Names and reasons of both tables: once each, and one line each.
func TestTables(t *testing.T) {
	seen := map[string]bool{}
	check := func(name, value, reason string) {
		if seen[name] {
			t.Errorf("%s twice", name)
		}
		seen[name] = true
		if reason == "" || strings.ContainsAny(name+value, " =\n\"") {
			t.Errorf("%s=%s (%s) is malformed", name, value, reason)
		}
	}
	for _, p := range Hardening {
		check(p.Name, p.Value, p.Reason)
	}
	for _, s := range Sysctls {
		check(s.Key, s.Value, s.Reason)
	}
	if n := strings.Count(RenderSysctls(), "\n"); n != len(Sysctls) {
		t.Errorf("%d lines for %d sysctls", n, len(Sysctls))
	}
}

// The kernel takes the larger one of all and a link's own rp_filter. With 1 in all, pods'
// links and uplinks are strict, and a machine with two cables in one network drops what
// arrives on the second. networkd has the rest (TestRealTwoCablesInOneNetwork).
func TestRPFilterIsStrictButForUplinks(t *testing.T) {
	values := map[string]string{}
	for _, s := range Sysctls {
		values[s.Key] = s.Value
	}
	if all, other := values["net.ipv4.conf.all.rp_filter"], values["net.ipv4.conf.default.rp_filter"]; all != "0" || other != "1" {
		t.Errorf("all %s, default %s, want 0 and 1", all, other)
	}
}

func TestParseConfig(t *testing.T) {
	c, err := parseConfig("# a comment\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x,y\"\n\nCONFIG_D=32\n")
	if err != nil {
		t.Fatal(err)
	}
	if !c.Has("A=y B=n C=x,y D=32 E=n") || c.Has("A=n") {
		t.Errorf("parsed as %v", c)
	}
	if _, err := parseConfig("NOT_AN_OPTION=y\n"); err == nil {
		t.Error("a line without CONFIG_ was taken")
	}
}
