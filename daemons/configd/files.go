package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// files are the two places of the YAML. This file has configd's only system calls.
type files struct {
	boot string // put there by whoever flashed the machine; never written
	kept string // the last good one
}

// stamp tells one content of a file from the next without reading it; the zero
// stamp is a file that cannot be looked at.
type stamp struct {
	size     int64
	modified time.Time
}

// stamps looks at both files.
func (f files) stamps() [2]stamp {
	return [2]stamp{stampOf(f.boot), stampOf(f.kept)}
}

func stampOf(path string) stamp {
	i, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{i.Size(), i.ModTime()}
}

// read returns a file's content, nil when there is none.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if data == nil {
		data = []byte{}
	}
	return data, err
}

// keep replaces the kept file so that a power cut leaves the old or the new one.
func (f files) keep(data []byte) error {
	dir := filepath.Dir(f.kept)
	t, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(t.Name()) // of no effect once it has its final name
	_, err = t.Write(data)
	if err == nil {
		err = t.Sync()
	}
	if err := errors.Join(err, t.Close()); err != nil {
		return err
	}
	if err := os.Rename(t.Name(), f.kept); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
