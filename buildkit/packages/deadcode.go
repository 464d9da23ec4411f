package packages

import (
	"debug/elf"
	"debug/gosym"
	"fmt"
	"slices"
	"strings"
)

// unused are methods of types that every program has, which none of ours calls. When
// something reaches a call of a method whose name is not known at link time, the
// linker must keep every exported method of every type, and these with them. A
// program that has reason to call one needs another in its place.
var unused = []string{"os.(*File).Chdir", "time.(*Time).ISOWeek"}

// checkDeadCode fails when the linker could not drop dead code from the program. The
// table of functions is there in a stripped one too: panics need it.
func checkDeadCode(program string) error {
	names, err := functions(program)
	if err != nil {
		return err
	}
	for _, f := range unused {
		if slices.Contains(names, f) {
			return fmt.Errorf("%s contains %s, so the linker kept all dead code; to find what calls methods by name: "+
				"go build -ldflags=-dumpdep … 2>&1 | grep '<ReflectMethod>'", program, f)
		}
	}
	return nil
}

// functions are the names of a Go program's functions.
func functions(program string) ([]string, error) {
	f, err := elf.Open(program)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	table, text := f.Section(".gopclntab"), f.Section(".text")
	if table == nil || text == nil {
		return nil, fmt.Errorf("%s has no table of Go functions", program)
	}
	data, err := table.Data()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", program, err)
	}
	t, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		return nil, fmt.Errorf("read the functions of %s: %w", program, err)
	}
	var names []string
	for _, fn := range t.Funcs {
		names = append(names, strings.TrimSuffix(fn.Name, "-fm"))
	}
	if !slices.Contains(names, "main.main") {
		return nil, fmt.Errorf("%s: no main.main among its %d functions", program, len(names))
	}
	return names, nil
}
