package main

import "errors"

// source says where the configuration in force comes from.
type source string

const (
	fromBoot    source = "boot"
	fromKept    source = "state"
	fromDefault source = "default"
)

// content is one file as it was read: nil data when there is none.
type content struct {
	path string
	data []byte
	err  error
}

// verdict is what is in force, and why not something else.
type verdict struct {
	settings
	yaml    []byte
	source  source
	problem error // why a file was not taken; nil when none was refused
	keep    bool  // yaml is not yet what is kept
}

// decide takes the first good one of the file on the ESP, the kept one and the
// defaults.
func decide(boot, kept content) verdict {
	s, bootErr := boot.settings()
	if bootErr == nil && boot.data != nil {
		return verdict{s, boot.data, fromBoot, nil, string(kept.data) != string(boot.data) || kept.data == nil}
	}
	s, keptErr := kept.settings()
	if keptErr == nil && kept.data != nil {
		return verdict{s, kept.data, fromKept, bootErr, false}
	}
	return verdict{defaults(), nil, fromDefault, oneLine(bootErr, keptErr), false}
}

func (c content) settings() (settings, error) {
	if c.err != nil {
		return defaults(), c.err
	}
	return parse(c.path, c.data)
}

// oneLine is errors.Join for a field that holds one line.
func oneLine(a, b error) error {
	if a == nil || b == nil {
		return errors.Join(a, b)
	}
	return errors.New(a.Error() + "; " + b.Error())
}
