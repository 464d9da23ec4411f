package kernel

import "testing"

func TestKernelIsNotOlderThanItsProtections(t *testing.T) {
	for version, ok := range map[string]bool{
		"6.12.117-dactyl": true, "6.12.118": true, "6.13.0-dactyl": true, "7.0": true,
		"6.12.116-dactyl": false, "6.12": false, "6.1.999": false, "": false, "6.x": false,
	} {
		if err := checkVersion(version); (err == nil) != ok {
			t.Errorf("%q: %v", version, err)
		}
	}
}
