package main

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// levels are the kernel's, by number; the words are those of the daemons' lines.
var levels = [...]string{"EMERG", "ALERT", "CRIT", "ERROR", "WARN", "NOTICE", "INFO", "DEBUG"}

// message is one record of /dev/kmsg.
type message struct {
	sequence uint64        // from 0, without gaps in what the kernel wrote
	at       time.Duration // since the machine started
	text     []byte
}

// parseMessage reads "priority,sequence,microseconds,flags[,…];text\n key=value\n…".
// See Documentation/ABI/testing/dev-kmsg of the kernel.
func parseMessage(b []byte) (message, error) {
	var m message
	head, text, ok := bytes.Cut(b, []byte(";"))
	fields := bytes.Split(head, []byte(","))
	if !ok || len(fields) < 4 {
		return m, fmt.Errorf("kernel message %.80q: no header", b)
	}
	priority, err1 := strconv.ParseUint(string(fields[0]), 10, 32)
	sequence, err2 := strconv.ParseUint(string(fields[1]), 10, 64)
	micros, err3 := strconv.ParseInt(string(fields[2]), 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return m, fmt.Errorf("kernel message %.80q: no numbers in its header", b)
	}
	text, _, _ = bytes.Cut(text, []byte("\n")) // behind it are the device's properties
	m.sequence = sequence
	m.at = time.Duration(micros) * time.Microsecond
	m.text = clean(append([]byte(levels[priority&7]+" "), text...))
	return m, nil
}
