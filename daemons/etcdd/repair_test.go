package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"

	"github.com/dactyl-os/dactyl/ipc/etcd"
)

// filled is a world whose database has some keys and a copy from before the last one.
func filled(t *testing.T) *world {
	w := newWorld(t)
	w.start()
	c := w.client()
	for i := range 200 {
		w.put(c, fmt.Sprint("key", i), strings.Repeat("x", 1000))
	}
	if err := w.dir.writeCopy(func(f *os.File) error { return w.server.db.snapshot(f, func(int64) {}) }); err != nil {
		t.Fatal(err)
	}
	w.put(c, "late", "1")
	w.stop()
	return w
}

// died leaves the note of a process that etcd ended early.
func (w *world) died() {
	w.Helper()
	if err := os.WriteFile(w.dir.crash(), []byte("failed to read WAL\n"), 0o600); err != nil {
		w.Fatal(err)
	}
}

// spoil overwrites a part of each file that pattern names.
func (w *world) spoil(pattern string, from, length int64) {
	w.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		w.Fatalf("nothing at %s: %v", pattern, err)
	}
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			w.Fatal(err)
		}
		_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, int(length)), from)
		if err := errors.Join(err, f.Close()); err != nil {
			w.Fatal(err)
		}
	}
}

// A log that is damaged in its middle, which etcd does not repair: the database itself has
// nearly all of it.
func TestADamagedLogIsReplaced(t *testing.T) {
	w := filled(t)
	w.spoil(filepath.Join(w.dir.wal(), "*.wal"), 20_000, 5000)
	w.died()
	w.start()
	c := w.client()
	if got := w.get(c, "late"); got != "1" {
		t.Errorf("late is %q", got)
	}
	if s := w.status(); !strings.Contains(s.Message, "the log of the database is damaged") || s.Revision < revisionBump {
		t.Errorf("%v", s)
	}
	if !exists(filepath.Join(w.dir.broken(), "member", "wal")) {
		t.Error("what was damaged is gone")
	}
	// What was said is said again, and nothing is replaced again.
	w.put(c, "a", "1")
	w.stop()
	w.start()
	if got := w.get(w.client(), "a"); got != "1" || !strings.Contains(w.status().Message, "damaged") {
		t.Errorf("a is %q, %v", got, w.status())
	}
}

// A length that is damaged in the middle of the log, and nothing else: etcd would cut the
// log there, and then acknowledge writes that it leaves out.
func TestADamagedLengthInTheLogIsDamage(t *testing.T) {
	w := filled(t)
	w.spoil(filepath.Join(w.dir.wal(), "*.wal"), w.record(100), 8)
	w.start()
	c := w.client()
	w.put(c, "more", "2")
	if late, more := w.get(c, "late"), w.get(c, "more"); late != "1" || more != "2" {
		t.Errorf("late is %q, more is %q", late, more)
	}
	if s := w.status(); !strings.Contains(s.Message, "the log of the database is damaged: it ends with entry") {
		t.Errorf("%v", s)
	}
}

// record returns where the log's record of a number begins, in bytes.
func (w *world) record(number int) int64 {
	w.Helper()
	paths, err := filepath.Glob(filepath.Join(w.dir.wal(), "*.wal"))
	if err != nil || len(paths) != 1 {
		w.Fatal(paths, err)
	}
	f, err := os.Open(paths[0])
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	d := wal.NewDecoder(fileutil.NewFileReader(f))
	var r walpb.Record
	for range number {
		if err := d.Decode(&r); err != nil {
			w.Fatal(err)
		}
		if r.Type == wal.CrcType {
			d.UpdateCRC(r.Crc)
		}
	}
	return d.LastOffset()
}

// A database that cannot be read is replaced by its copy.
func TestADamagedDatabaseIsReplacedByItsCopy(t *testing.T) {
	for name, spoil := range map[string]func(*world){
		"both heads": func(w *world) { w.spoil(w.dir.db(), 0, 8192) },
		"pages":      func(w *world) { w.spoil(w.dir.db(), 16384, 100_000) },
		"cut off":    func(w *world) { os.Truncate(w.dir.db(), 40_000) },
		"no log, and no database": func(w *world) {
			w.spoil(w.dir.db(), 0, 8192)
			os.RemoveAll(w.dir.wal())
		},
		"nothing at all": func(w *world) { os.RemoveAll(w.dir.member()) },
	} {
		t.Run(name, func(t *testing.T) {
			w := filled(t)
			spoil(w)
			w.died()
			w.start()
			c := w.client()
			if a, b := w.get(c, "key199"), w.get(c, "late"); len(a) != 1000 || b != "" {
				t.Errorf("key199 has %d bytes, late is %q", len(a), b)
			}
			if s := w.status(); !strings.Contains(s.Message, "restored from its copy") {
				t.Errorf("%v", s)
			}
			w.until(func(s *etcd.Status) bool { return s.Serving })
		})
	}
}

// Without a copy nothing is touched, and it does not start again and again.
func TestADamagedDatabaseWithoutACopyIsLeftAlone(t *testing.T) {
	w := filled(t)
	if err := os.Remove(w.dir.copy()); err != nil {
		t.Fatal(err)
	}
	w.spoil(w.dir.db(), 0, 8192)
	before := w.files()
	w.died()
	_, err := w.dir.mend(slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "there is no copy of it yet") {
		t.Errorf("%v", err)
	}
	if after := w.files(); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
}

// etcd died, but of nothing that is wrong with the files.
func TestSoundFilesAreLeftAlone(t *testing.T) {
	w := filled(t)
	before := w.files()
	w.died()
	notice, err := w.dir.mend(slog.New(slog.DiscardHandler))
	if err != nil || notice != "" {
		t.Errorf("%q, %v", notice, err)
	}
	if after := w.files(); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
	w.start()
	if got := w.get(w.client(), "late"); got != "1" {
		t.Errorf("late is %q", got)
	}
}

// The end of the log is torn, as a power cut leaves it: etcd repairs that by itself.
func TestATornLogIsRepaired(t *testing.T) {
	w := filled(t)
	wals, _ := filepath.Glob(filepath.Join(w.dir.wal(), "*.wal"))
	text, err := os.ReadFile(wals[len(wals)-1])
	if err != nil {
		t.Fatal(err)
	}
	end := int64(bytes.LastIndexFunc(text, func(r rune) bool { return r != 0 }))
	if err := os.Truncate(wals[len(wals)-1], end-20); err != nil {
		t.Fatal(err)
	}
	w.start()
	c := w.client()
	if got := w.get(c, "key199"); len(got) != 1000 {
		t.Errorf("key199 has %d bytes", len(got))
	}
	w.put(c, "a", "1")
	if s := w.status(); s.Message != "" || s.Revision >= revisionBump {
		t.Errorf("%v", s)
	}
}

// The power failed while the very first start made the files.
func TestAnUnbegunDatabaseIsMadeAnew(t *testing.T) {
	for name, size := range map[string]int64{"whole": -1, "empty": 0, "half": 8192} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			w.stop()
			if err := os.RemoveAll(w.dir.wal()); err != nil {
				t.Fatal(err)
			}
			if size >= 0 {
				if err := os.Truncate(w.dir.db(), size); err != nil {
					t.Fatal(err)
				}
			}
			w.start()
			w.put(w.client(), "a", "1")
			if s := w.status(); s.Message != "" || s.Revision > 10 {
				t.Errorf("%v", s)
			}
		})
	}
}

func TestUnfinishedFilesAreRemoved(t *testing.T) {
	w := filled(t)
	for _, path := range []string{filepath.Join(w.dir.snap(), "db.tmp.123"), filepath.Join(w.dir.coming(), "member"), w.dir.copy() + ".tmp"} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	before := w.files()
	if _, err := w.dir.mend(slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if after := w.files(); strings.Contains(after, "tmp") || strings.Contains(after, "coming") {
		t.Errorf("before %s\nafter  %s", before, after)
	}
}

// files lists all files with their sizes, but for the note.
func (w *world) files() string {
	w.Helper()
	var out strings.Builder
	err := filepath.Walk(w.dir.path, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && path != w.dir.crash() || err == nil && info.IsDir() {
			fmt.Fprintln(&out, strings.TrimPrefix(path, w.dir.path), map[bool]int64{false: info.Size()}[info.IsDir()])
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return out.String()
}
