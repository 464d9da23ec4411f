package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

var update = flag.Bool("update", false, "write what the stories' commands print into testdata")

// The stories are in testdata: lines "> command", each with what it prints.
//
//	flash 8GiB          a fresh image is written to a disk of this size
//	installed 8GiB      the same, and it has booted once
//	boot                power on; storaged's steps, its notes, and what it ends with
//	boot cut 2          the power goes after the second step
//	restart             storaged alone is started anew
//	damage X            primary, backup, mbr, STATE or EPHEMERAL: it does not mount until it is repaired
//	flag X              the kernel has found errors in STATE or EPHEMERAL; it mounts
//	ruin X              e2fsck cannot repair STATE or EPHEMERAL
//	foreign backup      another system's table is at the end of the disk
//	fail STEP           this step will end with EIO
//	cure STEP
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories: ", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(want))
			if *update {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("the story goes\n%s", got)
			}
		})
	}
}

func tell(t *testing.T, story string) string {
	w := newWorld()
	var out strings.Builder
	for line := range strings.Lines(story) {
		line = strings.TrimRight(line, "\n")
		command, isCommand := strings.CutPrefix(line, "> ")
		if isCommand || strings.HasPrefix(line, "#") {
			fmt.Fprintln(&out, line)
		}
		if isCommand {
			out.WriteString(act(t, w, command))
		}
	}
	return out.String()
}

func act(t *testing.T, w *world, command string) string {
	verb, rest, _ := strings.Cut(command, " ")
	switch verb {
	case "flash":
		w.flash(sizeMiB(t, rest))
	case "installed":
		w.flash(sizeMiB(t, rest))
		if err := w.boot(); err != nil {
			t.Fatal(err)
		}
		run(t, w, -1)
	case "damage":
		w.damage(rest)
	case "flag":
		w.content[rest].hasErrors = true
	case "ruin":
		w.content[rest].ruined = true
	case "foreign":
		w.foreignBackup()
	case "fail":
		w.fail[rest] = errors.New("input/output error")
	case "cure":
		delete(w.fail, rest)
	case "boot":
		if err := w.boot(); err != nil {
			return "  " + err.Error() + "\n"
		}
		fallthrough
	case "restart":
		cut := -1
		if n, ok := strings.CutPrefix(rest, "cut "); ok {
			cut, _ = strconv.Atoi(n)
		}
		return run(t, w, cut)
	default:
		t.Fatalf("no command %q", command)
	}
	return ""
}

// run is storaged from its start until it has nothing left to do, or until the
// power goes after so many steps.
func run(t *testing.T, w *world, cut int) string {
	var b strings.Builder
	e, k := newEngine(), &cutter{world: w, left: cut}
	log := slog.New(teller{&b})
	o, err := settle(t.Context(), k, e, log)
	if errors.Is(err, errPowerCut) {
		return b.String() + "  power cut\n"
	} else if err != nil {
		t.Fatal(err)
	}
	growAll(context.Background(), w, growths(o), log)
	return b.String() + w.String()
}

// cutter ends a run after so many steps.
type cutter struct {
	*world
	left int
}

func (c *cutter) observe() (observation, error) {
	if c.left == 0 {
		return observation{}, errPowerCut
	}
	c.left--
	return c.world.observe()
}

// teller writes what storaged logs as a story has it, without what differs from
// run to run.
type teller struct{ out *strings.Builder }

func (l teller) Enabled(context.Context, slog.Level) bool { return true }
func (l teller) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l teller) WithGroup(string) slog.Handler            { return l }

func (l teller) Handle(_ context.Context, r slog.Record) error {
	fmt.Fprint(l.out, "  ", r.Message)
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "err":
			fmt.Fprint(l.out, " -> ", a.Value)
		case "volume":
			fmt.Fprint(l.out, " ", a.Value)
		case "bytes":
			fmt.Fprintf(l.out, " to %d MiB", a.Value.Uint64()>>20)
		case "note":
			fmt.Fprint(l.out, ": note: ", a.Value)
		}
		return true
	})
	fmt.Fprintln(l.out)
	return nil
}

func sizeMiB(t *testing.T, s string) uint64 {
	for unit, factor := range map[string]uint64{"MiB": 1, "GiB": 1 << 10, "TiB": 1 << 20} {
		if n, err := strconv.ParseUint(strings.TrimSuffix(s, unit), 10, 64); err == nil {
			return n * factor
		}
	}
	t.Fatalf("no size %q", s)
	return 0
}

func (w *world) damage(what string) {
	noise := bytes.Repeat([]byte{0xff}, 512)
	switch what {
	case "primary":
		w.put(1, noise)
	case "backup":
		w.put(w.sectors-1, noise)
	case "mbr":
		w.put(0, noise)
	default:
		w.content[what].corrupt = true
	}
}

// foreignBackup leaves at the end of the disk a valid table with other partitions.
func (w *world) foreignBackup() {
	entries := make([]byte, 128*128)
	entries[0], entries[33], entries[41] = 7, 0x10, 0x20 // sectors 4096 to 8192
	last := w.sectors - 1
	w.put(last-32, entries)
	w.put(last, header(entries, last, 1, last-32, last-33))
}

// Whenever the power goes while tables are written, sector by sector, the next
// boot finds a root and ends as if nothing had happened.
func TestPowerCutAtEverySector(t *testing.T) {
	whole := newWorld()
	whole.flash(8 << 10)
	if err := whole.boot(); err != nil {
		t.Fatal(err)
	}
	run(t, whole, -1)
	want := whole.String()
	for cut := 0; ; cut++ {
		w := newWorld()
		w.flash(8 << 10)
		if err := w.boot(); err != nil {
			t.Fatal(err)
		}
		w.disk.left = cut
		_, err := settle(t.Context(), &dying{w}, newEngine(), slog.New(slog.DiscardHandler))
		w.disk.left = -1
		if bootErr := w.boot(); bootErr != nil {
			t.Fatalf("cut after %d sectors: %v", cut, bootErr)
		}
		run(t, w, -1)
		if got := w.String(); got != want {
			t.Fatalf("cut after %d sectors ends with\n%s\nwant\n%s", cut, got, want)
		}
		if err == nil {
			if cut < 2*33+1 {
				t.Fatalf("only %d sectors were written", cut)
			}
			return
		}
	}
}

// dying ends with the first write that the power does not suffice for.
type dying struct{ *world }

func (d *dying) observe() (observation, error) {
	if d.disk.left == 0 {
		return observation{}, errPowerCut
	}
	return d.world.observe()
}

func TestGrowthSteps(t *testing.T) {
	const gib = 1 << 18 // blocks
	for _, c := range []struct {
		from, to uint64
		want     []uint64
	}{
		{24576, 8 * gib, []uint64{8 * gib}},
		{24576, 64 * gib, []uint64{64 * gib}},
		{24576, 65 * gib, []uint64{64 * gib, 65 * gib}},
		{64 * gib, 200 * gib, []uint64{128 * gib, 192 * gib, 200 * gib}},
	} {
		if got := (growth{blockSize: 4096, from: c.from, to: c.to}).steps(); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("from %d to %d: %d, want %d", c.from, c.to, got, c.want)
		}
	}
}

// busyKernel is being grown by another process for the first few tries.
type busyKernel struct {
	kernel
	busy  int
	grown []uint64
}

func (k *busyKernel) grow(_ volume, blocks uint64) error {
	if k.busy--; k.busy >= 0 {
		return errBusy
	}
	k.grown = append(k.grown, blocks)
	return nil
}

// A replaced storaged finishes its last step while the new one waits.
func TestGrowWaitsForThePredecessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &busyKernel{busy: 3}
		if err := growOne(t.Context(), k, growth{ephemeral, 4096, 10, 20}); err != nil || fmt.Sprint(k.grown) != "[20]" {
			t.Errorf("grown %v, %v", k.grown, err)
		}
	})
}

// SIGTERM ends the waiting.
func TestGrowEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*busyWait)
		defer cancel()
		err := growOne(ctx, &busyKernel{busy: 1 << 30}, growth{ephemeral, 4096, 10, 20})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
