package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/kubed/internal/render"
)

// files are kubed's: what it gives to others, what it keeps and what trustd gave it.
type files struct {
	gives string // a folder for each receiver
	keeps string
	keys  string
}

func daemonFiles(d abi.Daemon) files {
	return files{gives: filepath.Join(abi.ShareDir, d.Name), keeps: "/var/lib/dactyl/kubed", keys: filepath.Join(abi.ShareDir, "trustd", d.Name)}
}

const (
	// given is readable for the receiver's group, which the folder passes on.
	given = 0o640
	kept  = 0o600
	// unfinished ends the name of a file until all of it is there; nobody reads it.
	unfinished = ".unfinished"
)

// give writes those of a program's files that differ.
func (f files) give(p render.Program) error {
	for _, file := range p.Files {
		if err := replace(f.at(p, file), []byte(file.Text), given); err != nil {
			return err
		}
	}
	return nil
}

func (f files) at(p render.Program, file render.File) string {
	return filepath.Join(f.gives, p.Receiver, file.Name)
}

// replace makes the file have this content, all of it or the old one.
func replace(name string, content []byte, mode fs.FileMode) error {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(name+unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return os.Rename(f.Name(), name)
}

// sweep removes everything that is not a file of these programs, and the folders that
// are empty then: containerd does not look further than a registry's folder.
func (f files) sweep(all []render.Program) error {
	var keep []string
	for _, p := range all {
		for _, file := range p.Files {
			keep = append(keep, f.at(p, file))
		}
	}
	var folders []string // below those of the receivers, which are PID 1's
	err := filepath.WalkDir(f.gives, func(name string, d fs.DirEntry, err error) error {
		below, _ := filepath.Rel(f.gives, name)
		switch {
		case err != nil || slices.Contains(keep, name):
			return err
		case !d.IsDir():
			return os.Remove(name)
		case strings.Contains(below, "/"):
			folders = append(folders, name)
		}
		return nil
	})
	for _, name := range slices.Backward(folders) {
		if e := os.Remove(name); e != nil && !errors.Is(e, fs.ErrExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

const pinFile = "node.json"

func (f files) keepPin(p pin) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(f.keeps, pinFile), append(text, '\n'), kept); err != nil {
		return fmt.Errorf("keep the node's name: %w", err)
	}
	return nil
}

// readPin reads who the node was; nobody if that was never kept or cannot be read.
func (f files) readPin() (p pin, err error) {
	text, err := os.ReadFile(filepath.Join(f.keeps, pinFile))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return pin{}, fmt.Errorf("read who the node was: %w", err)
	}
	return p, nil
}

const workedFile = "healthy.json"

// keepWorked stores the configurations that are known to work.
func (f files) keepWorked(worked map[partName]string) error {
	text, err := json.Marshal(worked)
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(f.keeps, workedFile), append(text, '\n'), kept); err != nil {
		return fmt.Errorf("keep what was healthy: %w", err)
	}
	return nil
}

// readWorked reads the configurations that are known to work; none if that cannot be read.
func (f files) readWorked() (map[partName]string, error) {
	worked := map[partName]string{}
	text, err := os.ReadFile(filepath.Join(f.keeps, workedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return worked, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &worked)
	}
	if err != nil || worked == nil {
		return map[partName]string{}, fmt.Errorf("read what was healthy: %w", err)
	}
	return worked, nil
}

const (
	// minFree is what components need to start: containerd's database grows in steps of
	// up to 16 MiB.
	minFree = 16 << 20
	// minFreeFiles is how many files the kubelet makes until it is healthy, and more.
	minFreeFiles = 64
)

// full says that the disk, which components' directories are on, has too little space
// for them to start. What cannot be known is not full.
func (f files) full() bool {
	var st unix.Statfs_t
	if unix.Statfs(f.keeps, &st) != nil {
		return false
	}
	return tooFull(st)
}

func tooFull(st unix.Statfs_t) bool {
	return st.Bavail*uint64(st.Bsize) < minFree || st.Files > 0 && st.Ffree < minFreeFiles
}

// key is the path of something that trustd gave to kubed.
func (f files) key(name string) string { return path.Join(f.keys, name) }

// authority is the CA of the API server's certificate, PEM.
func (f files) authority() ([]byte, error) {
	text, err := os.ReadFile(f.key("kubernetes-ca.crt"))
	if err != nil {
		return nil, err
	}
	if !strings.Contains(string(text), "BEGIN CERTIFICATE") {
		return nil, errors.New("kubernetes-ca.crt holds no certificate")
	}
	return text, nil
}
