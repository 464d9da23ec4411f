package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever interrupts flashing must be told what the disk is good for.
func TestInterruptedFlashSaysSo(t *testing.T) {
	dir := t.TempDir()
	image, disk := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	if err := os.WriteFile(image, bytes.Repeat([]byte("x"), 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(context.Background())
	interrupt()
	var said bytes.Buffer
	a := &app{stdin: os.Stdin, stdout: &said, stderr: &said}
	if code := a.run(ctx, []string{"flash", image, disk, "--file"}); code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	if want := "interrupted: " + disk + " is now incomplete: it will not boot"; !strings.Contains(said.String(), want) {
		t.Errorf("said %q, want %q", said.String(), want)
	}
}
