package hostdeps

import (
	"context"
	"io"
	"slices"
	"testing"
)

func TestEveryPackageHasAReasonAndStandsOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Packages {
		if p.Reason == "" || seen[p.Name] {
			t.Errorf("package %s has no reason or stands twice", p.Name)
		}
		seen[p.Name] = true
	}
}

// A package can be known to dpkg and not be there: removed, but not its configuration.
func TestInstalledReadsStatus(t *testing.T) {
	have := installed("zstd installed\nlibelf-dev:amd64 installed\ngdisk config-files\nrsync not-installed\n")
	if !have["zstd"] || !have["libelf-dev"] || have["gdisk"] || have["rsync"] {
		t.Errorf("read %v", have)
	}
}

func TestMissing(t *testing.T) {
	nowhere := Package{"no-such-package-of-dactyl", "test"}
	missing, err := Missing(context.Background(), []Package{{"dpkg", "test"}, nowhere})
	if err != nil || !slices.Equal(missing, []Package{nowhere}) {
		t.Errorf("missing %v (%v), want only %v", missing, err, nowhere)
	}
	if err := Install(context.Background(), nil, io.Discard); err != nil {
		t.Errorf("nothing to install: %v", err)
	}
}
