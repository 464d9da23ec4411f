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
	starting     = regexp.MustCompile(Started)
	dying        = regexp.MustCompile(`PANIC: |Oops: |Kernel panic`)
	printedFlags = regexp.MustCompile(`EFLAGS: ([0-9a-f]{8})`)
)

// died returns what a kernel said when it died, or "", and whether the emulator is to
// blame: before PID 1 started it shows flags that no processor has. QEMU 7.2 has had
// half a pointer in them, 0.3 s after the kernel's start; what it keeps to compute
// flags from has been mixed up before (its commit e3693cd3 mends one case). Later, a
// kernel that spoils its own stack might show the same, so nothing is excused then.
func died(lines []Line) (said string, impossible bool) {
	var b strings.Builder
	started, excused := false, ""
	for _, l := range lines {
		if b.Len() == 0 && !dying.MatchString(l.Text) {
			started = started || starting.MatchString(l.Text)
			continue
		}
		b.WriteString("  " + l.Text + "\n")
		if m := printedFlags.FindStringSubmatch(l.Text); m != nil && !started {
			flags, _ := strconv.ParseUint(m[1], 16, 32)
			impossible = impossible || flags&impossibleFlags != 0
		}
		switch {
		case !strings.Contains(l.Text, "Kernel panic"):
		case !impossible:
			return b.String(), false
		default: // it starts anew, and what comes then counts
			excused, impossible = b.String(), false
			b.Reset()
		}
	}
	if b.Len() > 0 {
		return b.String(), impossible
	}
	return excused, excused != ""
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
