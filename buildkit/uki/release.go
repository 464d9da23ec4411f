package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Release reads a bzImage's release, as uname -r says it, from the setup header:
// the kernel keeps it in the text "6.12.0 (who@where) #1 …".
func Release(kernel []byte) (string, error) {
	const pointerAt, base = 0x20e, 0x200
	if err := checkKernel(kernel); err != nil {
		return "", err
	}
	at := int(binary.LittleEndian.Uint16(kernel[pointerAt:]))
	if at == 0 || at+base >= len(kernel) {
		return "", errors.New("uki: the kernel does not say its version")
	}
	text := kernel[at+base:]
	end := bytes.IndexAny(text[:min(len(text), 128)], " \x00")
	if end <= 0 {
		return "", errors.New("uki: the kernel does not say its version")
	}
	return string(text[:end]), nil
}
