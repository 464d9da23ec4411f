package system

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
)

// interpreter matches the names of programs that run what they read, or start programs
// that they are given by name.
var interpreter = regexp.MustCompile(`^(` +
	`(ba|da|a|z|k|mk|fi|tc|c)?sh|rbash|busybox|toybox|env|xargs|find|expect|script|` +
	`python[0-9.]*|perl[0-9.]*|ruby[0-9.]*|lua(jit)?[0-9.]*|php[0-9.]*|tclsh[0-9.]*|wish[0-9.]*|guile[0-9.]*|` +
	`node(js)?|deno|bun|java|[gmn]?awk|original-awk|sed|ed|ex|vi|vim|emacs|make|gdb|strace)$`)

// checkInterpreters reads every file of a staged root. The kernel runs scripts, because
// images of containers have them. In the root itself there is neither a script nor an
// interpreter: the only programs are those that the build puts there by name. Otherwise,
// who can have a program started could have it run a program that was only written.
func checkInterpreters(root string, programs []string) error {
	var wrong []error
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := "/" + must(filepath.Rel(root, file))
		if interpreter.MatchString(path.Base(name)) {
			wrong = append(wrong, fmt.Errorf("%s: by its name it is an interpreter", name))
		}
		if !d.Type().IsRegular() {
			return nil
		}
		problem, err := judge(file, slices.Contains(programs, name))
		if err == nil && problem != "" {
			wrong = append(wrong, fmt.Errorf("%s: %s", name, problem))
		}
		return err
	})
	return errors.Join(append(wrong, err)...)
}

// judge returns what is wrong with a file; listed says that it may be a program.
func judge(file string, listed bool) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	start, err := firstBytes(file, 4)
	if err != nil {
		return "", err
	}
	program := bytes.Equal(start, []byte("\x7fELF"))
	switch {
	case bytes.HasPrefix(start, []byte("#!")):
		return "a script; the image has nothing to run it, and is to have none", nil
	case program && !listed:
		return "a program or library that neither a daemon.toml nor buildkit/packages names", nil
	case !program && info.Mode()&0o111 != 0:
		return "can be executed and is not a program", nil
	}
	return "", nil
}

func firstBytes(file string, n int) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	start := make([]byte, n)
	got, err := io.ReadFull(f, start)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return start[:got], err
}

// must is for what cannot fail.
func must(s string, err error) string {
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return s
}
