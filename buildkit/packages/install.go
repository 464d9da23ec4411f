package packages

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// File is one file that Build made or found, and its place on the machine.
type File struct {
	Package string   // what it belongs to: a name of the table, or of another maker here
	From    string   // where it is here
	Path    string   // where it is on the machine
	Links   []string // further paths, on the machine, that lead to it
}

// Install puts files in their places below root.
func Install(root string, files []File) error {
	for _, f := range files {
		if err := copyFile(filepath.Join(root, f.Path), f.From); err != nil {
			return fmt.Errorf("install %s: %w", f.Path, err)
		}
		for _, link := range f.Links {
			if err := linkTo(root, link, f.Path); err != nil {
				return fmt.Errorf("install %s: %w", link, err)
			}
		}
	}
	return nil
}

func copyFile(to, from string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}

// linkTo makes a relative link, which leads to the same file wherever root is.
func linkTo(root, link, path string) error {
	at := filepath.Join(root, link)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	target, err := filepath.Rel(filepath.Dir(link), path)
	if err != nil {
		return err
	}
	return os.Symlink(target, at)
}
