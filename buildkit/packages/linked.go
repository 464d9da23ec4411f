package packages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// GoPackage is a package that is linked into a program, and the module it is of.
type GoPackage struct {
	Dir                        string
	Module, Version, ModuleDir string
}

// Linked lists what others wrote of all programs here. It is to be called in the
// repository or below.
func Linked(ctx context.Context) ([]GoPackage, error) {
	w, err := openWorkshop(ctx, "", io.Discard)
	if err != nil {
		return nil, err
	}
	var all []GoPackage
	for _, p := range Packages {
		linked, err := w.linked(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("what is linked into %s: %w", p.Name, err)
		}
		all = append(all, linked...)
	}
	return all, nil
}

func (w *workshop) linked(ctx context.Context, p Package) ([]GoPackage, error) {
	args := append([]string{"list", "-deps", "-tags", p.tags(), "-json=Dir,Module"}, p.imports()...)
	out, err := w.goOutputFor(ctx, p, args...)
	if err != nil {
		return nil, err
	}
	type module struct {
		Path, Version, Dir string
		Main               bool
		Replace            *module
	}
	var all []GoPackage
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var said struct {
			Dir    string
			Module *module
		}
		err := d.Decode(&said)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read what go list says: %w", err)
		}
		m := said.Module
		if m == nil || m.Main {
			continue // the standard library's, or ours
		}
		if m.Replace != nil {
			m = m.Replace
		}
		all = append(all, GoPackage{said.Dir, m.Path, m.Version, m.Dir})
	}
}

// imports are what is built. Of programs that a change makes into packages, the go command
// knows the programs.
func (p Package) imports() []string {
	var all []string
	for _, c := range p.Changes {
		for _, program := range c.programs {
			all = append(all, path.Join(c.Module, program))
		}
	}
	if len(all) == 0 {
		return []string{p.Import}
	}
	return all
}
