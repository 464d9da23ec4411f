package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dactyl-os/dactyl/test/vm"
)

const (
	document = "docs/measurements.md"
	// marker is where the table begins in document; what stands above is kept.
	marker = "<!-- written by: go run ./buildkit/cmd/bench -write -->\n"
)

// atMost is a result that is to be no more than limit.
func atMost(what string, value, limit float64, unit string) result {
	return result{what, amount(value, unit), "≤ " + number(limit) + space(unit), value > limit}
}

// compared is a result that is there for comparison.
func compared(what string, value float64, unit string) result {
	return result{what: what, measured: amount(value, unit)}
}

func amount(v float64, unit string) string { return number(v) + space(unit) }

func space(unit string) string {
	if unit == "×" {
		return unit
	}
	return " " + unit
}

// number writes three digits or what is left of the point, whichever is more.
func number(v float64) string {
	switch {
	case v == float64(int64(v)) || v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// report is the table with all that is needed to repeat it.
func report(ctx context.Context, table []result) string {
	rows := [][]string{{"figure", "measured", "to reach", ""}}
	for _, r := range table {
		verdict := ""
		switch {
		case r.missed:
			verdict = "missed"
		case r.target != "":
			verdict = "ok"
		}
		rows = append(rows, []string{r.what, r.measured, r.target, verdict})
	}
	return markdown(rows) + "\n" + circumstances(ctx)
}

// markdown pads the columns, so that the text is a table already.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			b.WriteString("| " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+1))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, w := range widths {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

func circumstances(ctx context.Context) string {
	accelerator, err := vm.Accelerator(ctx)
	if err != nil {
		accelerator = err.Error()
	}
	lines := []string{
		"Date: " + time.Now().UTC().Format("2006-01-02 15:04 UTC") + ", " + revision(ctx),
		fmt.Sprintf("Build machine: %s, %d processors, %s of memory, Linux %s, %s",
			field("/proc/cpuinfo", "model name"), runtime.NumCPU(), field("/proc/meminfo", "MemTotal"), firstLine("/proc/sys/kernel/osrelease"), runtime.Version()),
		"Emulated machine: " + firstOutput(ctx, "qemu-system-x86_64", "--version") + ", -accel " + accelerator + ", 2 processors, 1 GiB, OVMF, USB stick",
		"Command: `go run ./buildkit/cmd/bench " + strings.Join(os.Args[1:], " ") + "`",
	}
	return "- " + strings.Join(lines, "\n- ") + "\n"
}

func revision(ctx context.Context) string {
	name := "commit " + firstOutput(ctx, "git", "rev-parse", "--short", "HEAD")
	if firstOutput(ctx, "git", "status", "--porcelain", "--untracked-files=no") != "" {
		name += " with changes"
	}
	return name
}

func firstOutput(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// field returns the first value of a key in one of the kernel's lists.
func field(path, key string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func writeDocument(table string) error {
	text, err := os.ReadFile(document)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	above, _, _ := strings.Cut(string(text), marker)
	if err := os.MkdirAll(filepath.Dir(document), 0o755); err != nil {
		return err
	}
	return os.WriteFile(document, []byte(above+marker+"\n"+table), 0o644)
}

// percentile returns the value that p of 100 do not exceed.
func percentile(all []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
