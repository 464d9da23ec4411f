package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is where etcd's own commands are, once a test has wanted one.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "etcd-tools")
	if err != nil {
		return "", err
	}
	toolsDir = dir
	cmd := exec.Command("go", "build", "-o", dir+"/", "go.etcd.io/etcd/etcdctl/v3", "go.etcd.io/etcd/etcdutl/v3")
	cmd.Dir = "testdata/tools"
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", &exec.Error{Name: cmd.String(), Err: &buildError{string(out)}}
	}
	return dir, nil
})

// toolsDir is removed when the tests have ended.
var toolsDir string

type buildError struct{ text string }

func (e *buildError) Error() string { return e.text }

func TestMain(m *testing.M) {
	code := m.Run()
	if toolsDir != "" {
		os.RemoveAll(toolsDir)
	}
	os.Exit(code)
}

// tool returns a function that runs one of etcd's commands and returns what it says.
func tool(t *testing.T, name string) func(args ...string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return func(args ...string) string {
		t.Helper()
		out, err := exec.Command(filepath.Join(dir, name), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
}
