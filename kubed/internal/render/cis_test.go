package render

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Every check of the CIS benchmark that looks at flags or at the kubelet's configuration
// has the result that docs/kubernetes.md says.
func TestCISBenchmark(t *testing.T) {
	text, err := os.ReadFile("testdata/cis-1.12.txt")
	if err != nil {
		t.Fatal(err)
	}
	programs := programs(t, home())
	checks := 0
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		if len(words) < 4 {
			t.Fatalf("not a check: %s", line)
		}
		checks++
		c := check{id: words[0], setting: words[2], followed: true}
		for _, w := range words[3:] {
			switch w {
			case "manual": // said for the reader
			case "not-followed":
				c.followed = false
			case "?":
				c.optional = true
			default:
				c.want = append(c.want, w)
			}
		}
		value, set := setting(t, programs[words[1]], c.setting)
		holds, err := c.holds(value, set)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if holds != c.followed {
			t.Errorf("%s: %s of %s is %q (set: %v), want %s: %v", c.id, c.setting, words[1], value, set, strings.Join(c.want, " "), c.followed)
		}
	}
	if checks < 50 {
		t.Errorf("%d checks found", checks)
	}
}

// setting returns a flag's value or, of the kubelet, that of a path in its configuration.
func setting(t *testing.T, p Program, name string) (value string, set bool) {
	t.Helper()
	if p.Name == "" {
		t.Fatal("there is no such program")
	}
	for _, a := range p.Args {
		if v, ok := strings.CutPrefix(a, "--"+name+"="); ok {
			return v, true
		}
	}
	for _, f := range p.Files {
		if !slices.Contains(p.Args, "--config=/run/from/kubed/"+p.Receiver+"/"+f.Name) {
			continue
		}
		var at any
		if err := json.Unmarshal([]byte(f.Text), &at); err != nil {
			t.Fatal(err)
		}
		for _, key := range strings.Split(name, ".") {
			object, _ := at.(map[string]any)
			if at, set = object[key]; !set {
				return "", false
			}
		}
		if list, ok := at.([]any); ok {
			var words []string
			for _, v := range list {
				words = append(words, fmt.Sprint(v))
			}
			return strings.Join(words, ","), true
		}
		return fmt.Sprint(at), true
	}
	return "", false
}

// check is one of the benchmark.
type check struct {
	id, setting string
	want        []string // an operator and, of most, its operand
	optional    bool     // it may be left out, too
	followed    bool
}

// holds tells whether a setting is as the benchmark wants it.
func (c check) holds(value string, set bool) (bool, error) {
	if !set && c.optional {
		return true, nil
	}
	operator, operand := c.want[0], ""
	if len(c.want) > 1 {
		operand = c.want[1]
	}
	list := strings.Split(value, ",")
	switch operator {
	case "set":
		return set, nil
	case "unset":
		return !set, nil
	case "is":
		return set && value == operand, nil
	case "not":
		return set && value != operand, nil
	case "with":
		return slices.Contains(list, operand), nil
	case "without":
		return set && !slices.Contains(list, operand), nil
	case "among":
		strange := slices.ContainsFunc(list, func(v string) bool { return !slices.Contains(strings.Split(operand, ","), v) })
		return set && !strange, nil
	case "at-least":
		least, err := strconv.Atoi(operand)
		if err != nil {
			return false, err
		}
		n, err := strconv.Atoi(value)
		return set && err == nil && n >= least, nil
	}
	return false, fmt.Errorf("no such condition: %s", operator)
}
