package vm

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Started is the line with which PID 1 begins, as a pattern for Serial.WaitFor.
const Started = `^Dactyl .*: starting`

// impossibleFlags are the bits of RFLAGS that no processor in 64-bit mode ever has: the
// reserved ones and that of virtual 8086 mode.
const impossibleFlags = 0xffc08028 | 1<<17

var (
	dying        = regexp.MustCompile(`PANIC: |Oops: |Kernel panic`)
	printedFlags = regexp.MustCompile(`EFLAGS: ([0-9a-f]{8})`)
)

// died returns what a kernel said when it died, or "", and whether it shows flags that
// no processor has. QEMU's own may: what it keeps to compute them from has been mixed up
// before (its commit e3693cd3 mends one case), and once in many hundred boots, 0.3 s
// after the kernel's start, version 7.2 took half a pointer for them. That is nobody's
// fault here, and no reason to trust a kernel that dies in any other way.
func died(lines []Line) (said string, impossible bool) {
	var b strings.Builder
	for _, l := range lines {
		if b.Len() == 0 && !dying.MatchString(l.Text) {
			continue
		}
		b.WriteString("  " + l.Text + "\n")
		if m := printedFlags.FindStringSubmatch(l.Text); m != nil && !impossible {
			flags, _ := strconv.ParseUint(m[1], 16, 32)
			impossible = flags&impossibleFlags != 0
		}
		if strings.Contains(l.Text, "Kernel panic") {
			break
		}
	}
	return b.String(), impossible
}

// lived fails the test if the machine's kernel has died, although it would have rebooted
// and gone on.
func (c *claimed) lived(t *testing.T) {
	switch said, impossible := died(c.Serial.Lines()); {
	case said == "":
	case impossible:
		t.Logf("the emulated processor broke, and the machine with it:\n%s", said)
	default:
		t.Errorf("the kernel died:\n%s", said)
	}
}
