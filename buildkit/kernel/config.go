package kernel

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// Config is a resolved configuration: option names without CONFIG_ to their
// values, strings without quotes. What is not set is not there.
type Config map[string]string

// Get returns the option's value, n if it is not set.
func (c Config) Get(name string) string {
	if v, ok := c[name]; ok {
		return v
	}
	return "n"
}

// Has reports whether all settings of a list like "MODULES=n KEXEC=n" hold.
func (c Config) Has(settings string) bool {
	for s := range strings.FieldsSeq(settings) {
		name, want, _ := strings.Cut(s, "=")
		if c.Get(name) != want {
			return false
		}
	}
	return true
}

// ReadConfig reads a .config or a fragment of one.
func ReadConfig(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseConfig(string(text))
}

func parseConfig(text string) (Config, error) {
	c := Config{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if name, ok := unset(line); ok {
			c[name] = "n"
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "CONFIG_"), "=")
		if !ok || !strings.HasPrefix(line, "CONFIG_") {
			return nil, fmt.Errorf("kernel configuration line %d: %q is not CONFIG_NAME=value", n, line)
		}
		c[name] = strings.Trim(value, `"`)
	}
	return c, nil
}

// settings is a fragment without its comments, which may get better without a
// new kernel.
func settings(fragment string) string {
	var b strings.Builder
	for line := range strings.Lines(fragment) {
		if _, ok := unset(strings.TrimSpace(line)); ok || strings.HasPrefix(line, "CONFIG_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// unset understands "# CONFIG_NAME is not set".
func unset(line string) (string, bool) {
	name, ok := strings.CutSuffix(line, " is not set")
	if !ok {
		return "", false
	}
	return strings.CutPrefix(name, "# CONFIG_")
}
