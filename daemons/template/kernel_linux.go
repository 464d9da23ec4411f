package main

import (
	"fmt"
	"io"
	"os"
)

// machine is the kernel that template runs on.
type machine struct{ pressure *os.File }

func openKernel() (*machine, error) {
	f, err := os.Open("/proc/pressure/memory")
	if err != nil {
		return nil, err
	}
	return &machine{f}, nil
}

func (m *machine) memoryPressure() (string, error) {
	b := make([]byte, 256)
	n, err := m.pressure.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("read memory pressure: %w", err)
	}
	return string(b[:n]), nil
}
