package vulncheck

import (
	"bytes"
	"debug/elf"
	"fmt"
	"strings"
)

// functions is a program's table of functions, with those that are inlined.
type functions []byte

func readFunctions(program string) (functions, error) {
	f, err := elf.Open(program)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	table := f.Section(".gopclntab")
	if table == nil {
		return nil, fmt.Errorf("%s has no table of Go functions", program)
	}
	return table.Data()
}

// has says whether a function or method is in the program, or, if the name is empty,
// whether anything of the package is.
func (f functions) has(pkg, receiver, name string) bool {
	pkg = escaped(pkg)
	switch {
	case name == "" || strings.HasSuffix(name, "/*"):
		return bytes.Contains(f, []byte("\x00"+pkg+"."))
	case receiver == "":
		return f.named(pkg + "." + name)
	}
	// The same method may be there for a pointer or for a value, and of a generic type
	// with "[...]" in its name.
	receiver = strings.TrimPrefix(receiver, "*")
	for _, form := range []string{"%s.(*%s).%s", "%s.%s.%s", "%s.(*%s[...]).%s", "%s.%s[...].%s"} {
		if f.named(fmt.Sprintf(form, pkg, receiver, name)) {
			return true
		}
	}
	return false
}

// named looks for a whole name, for one that goes on with a closure's, and for an
// instance of a generic function.
func (f functions) named(name string) bool {
	for _, end := range []string{"\x00", ".", "-", "["} {
		if bytes.Contains(f, []byte("\x00"+name+end)) {
			return true
		}
	}
	return false
}

// escaped writes an import path as symbols have it: dots in its last part are %2e.
func escaped(path string) string {
	dir, last := "", path
	if i := strings.LastIndex(path, "/"); i >= 0 {
		dir, last = path[:i+1], path[i+1:]
	}
	return dir + strings.ReplaceAll(last, ".", "%2e")
}
