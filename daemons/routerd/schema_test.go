package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A damaged file keeps nobody but those who ask for types from the gateway.
func TestDamagedSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "services.pb")
	if err := os.WriteFile(path, []byte("\xff\xff"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := readSchema(path, table{"/dactyl.time.v1.Time/GetStatus": {}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.GetServiceInfo()["dactyl.time.v1.Time"]; !ok {
		t.Error("the table's service is not listed")
	}
	for range 2 {
		if _, err := s.FindDescriptorByName("dactyl.time.v1.Time"); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want an error that names the file", err)
		}
	}
}
