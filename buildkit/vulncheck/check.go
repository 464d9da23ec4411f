package vulncheck

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Finding is a vulnerability of which a program has the code.
type Finding struct {
	Program string
	ID      string // GO-2026-0001
	Module  string
	Version string
	Fixed   string // the version that is not vulnerable; "" when there is none
	Summary string
	Symbols []string // functions of it that are in the program
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s in %s %s, fixed in %s: %s (%s)", f.Program, f.ID, f.Module, f.Version,
		cmp.Or(f.Fixed, "no version yet"), f.Summary, strings.Join(f.Symbols, ", "))
}

// Check looks for vulnerabilities in Go programs, and returns those for which there is no
// exception. An error is returned, too, for an exception that is not right.
func Check(ctx context.Context, db Database, programs []string, progress io.Writer) ([]Finding, error) {
	t, err := openTool(ctx, db)
	if err != nil {
		return nil, err
	}
	return t.check(ctx, programs, progress)
}

func (t tool) check(ctx context.Context, programs []string, progress io.Writer) ([]Finding, error) {
	var found []Finding
	for _, program := range programs {
		said, err := t.ask(ctx, program, progress)
		if err != nil {
			return nil, err
		}
		f, err := findings(program, said)
		if err != nil {
			return nil, err
		}
		found = append(found, f...)
	}
	left, wrong := judge(found, Exceptions, time.Now())
	return left, errors.Join(wrong...)
}

// message is what govulncheck says, one kind at a time.
type message struct {
	OSV *struct {
		ID, Summary string
		Affected    []struct {
			Package           struct{ Name string }
			EcosystemSpecific struct {
				Imports []struct{ Path string }
			} `json:"ecosystem_specific"`
		}
	}
	Finding *struct {
		OSV   string
		Fixed string `json:"fixed_version"`
		Trace []struct {
			Module, Version, Package, Function, Receiver string
		}
	}
}

// findings are what govulncheck says of a program, as far as the code is in it.
func findings(program string, said []byte) ([]Finding, error) {
	linked, err := readFunctions(program)
	if err != nil {
		return nil, err
	}
	summaries := map[string]string{}
	whole := map[string]bool{} // modules of which nobody said what is vulnerable in them
	found := map[string]*Finding{}
	for d := json.NewDecoder(bytes.NewReader(said)); ; {
		var m message
		err := d.Decode(&m)
		if errors.Is(err, io.EOF) {
			return sorted(found, summaries), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read what govulncheck says of %s: %w", program, err)
		}
		if m.OSV != nil {
			summaries[m.OSV.ID] = m.OSV.Summary
			for _, a := range m.OSV.Affected {
				whole[m.OSV.ID+a.Package.Name] = len(a.EcosystemSpecific.Imports) == 0
			}
		}
		if m.Finding == nil || len(m.Finding.Trace) == 0 {
			continue
		}
		t := m.Finding.Trace[0]
		key := m.Finding.OSV + t.Module
		// govulncheck speaks of the module, then of its packages, then of their functions.
		if !whole[key] && (t.Function == "" || !linked.has(t.Package, t.Receiver, t.Function)) {
			continue
		}
		f := found[key]
		if f == nil {
			f = &Finding{Program: program, ID: m.Finding.OSV, Module: t.Module, Version: t.Version, Fixed: m.Finding.Fixed}
			found[key] = f
		}
		f.Symbols = append(f.Symbols, symbol(cmp.Or(t.Package, t.Module), t.Receiver, t.Function))
	}
}

func symbol(pkg, receiver, name string) string {
	return strings.Join(slices.DeleteFunc([]string{pkg, receiver, name}, func(part string) bool { return part == "" }), ".")
}

func sorted(found map[string]*Finding, summaries map[string]string) []Finding {
	var all []Finding
	for _, f := range found {
		f.Summary = summaries[f.ID]
		slices.Sort(f.Symbols)
		all = append(all, *f)
	}
	slices.SortFunc(all, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Module, b.Module)) })
	return all
}
