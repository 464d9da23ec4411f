package vm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fill is what a snapshot needs to count as complete.
func fill(dir string) error {
	return os.WriteFile(filepath.Join(dir, identityFile), []byte("{}"), 0o600)
}

func TestSnapshotIsMadeOnce(t *testing.T) {
	parent := t.TempDir()
	var made atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := findSnapshot(t.Context(), parent, "key", func(dir string) error {
				made.Add(1)
				Pause(t.Context())
				return fill(dir)
			})
			if err != nil {
				t.Error(err)
				return
			}
			s.close()
		})
	}
	all.Wait()
	if made.Load() != 1 {
		t.Errorf("made %d times", made.Load())
	}
}

// An incomplete snapshot is not used: the next caller makes it again.
func TestSnapshotThatFailedIsMadeAgain(t *testing.T) {
	parent, broken := t.TempDir(), errors.New("broken")
	if _, err := findSnapshot(t.Context(), parent, "key", func(string) error { return broken }); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if err := os.Mkdir(filepath.Join(parent, "key"), 0o700); err != nil { // its maker was killed
		t.Fatal(err)
	}
	s, err := findSnapshot(t.Context(), parent, "key", fill)
	if err != nil {
		t.Fatal(err)
	}
	s.close()
}

func TestOldSnapshotIsMadeAgain(t *testing.T) {
	parent := t.TempDir()
	path := filepath.Join(parent, "key", identityFile)
	for _, c := range []struct {
		age  time.Duration
		made int
	}{{snapshotAge - time.Minute, 0}, {snapshotAge + time.Minute, 1}} {
		made := 0
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := fill(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
		age(t, path, c.age)
		s, err := findSnapshot(t.Context(), parent, "key", func(dir string) error { made++; return fill(dir) })
		if err != nil {
			t.Fatal(err)
		}
		s.close()
		if made != c.made {
			t.Errorf("at an age of %v it was made %d times, want %d", c.age, made, c.made)
		}
	}
}

func age(t *testing.T, path string, age time.Duration) {
	t.Helper()
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
		t.Fatal(err)
	}
}

func TestPrune(t *testing.T) {
	parent := t.TempDir()
	for name, old := range map[string]time.Duration{"newest": 0, "used": 13 * time.Hour, "second": time.Hour, "third": 2 * time.Hour, "old": 14 * time.Hour} {
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := fill(dir); err != nil {
			t.Fatal(err)
		}
		age(t, filepath.Join(dir, identityFile), old)
	}
	if err := os.Mkdir(filepath.Join(parent, "unfinished"), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := lockFile(t.Context(), filepath.Join(parent, "used.lock"), unix.LOCK_SH)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := pruneSnapshots(parent, 2); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"newest": true, "second": true, "used": true, "third": false, "old": false, "unfinished": false} {
		if _, err := os.Stat(filepath.Join(parent, name)); (err == nil) != want {
			t.Errorf("%s: there %t, want %t", name, err == nil, want)
		}
	}
}

func TestLockEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := lockFile(t.Context(), path, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lockFile(ctx, path, unix.LOCK_SH); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A key that did not see a change would have scenarios pass with an image of yesterday.
func TestHashFile(t *testing.T) {
	sum := func(write func(f *os.File)) string {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		write(f)
		h := sha256.New()
		if err := hashFile(h, f.Name()); err != nil {
			t.Fatal(err)
		}
		return string(h.Sum(nil))
	}
	const size = 8 << 20
	seen := map[string]string{}
	for name, write := range map[string]func(*os.File){
		"empty":       func(*os.File) {},
		"all a hole":  func(f *os.File) { f.Truncate(size) },
		"data":        func(f *os.File) { f.Truncate(size); f.WriteAt([]byte("data"), 1<<20) },
		"other data":  func(f *os.File) { f.Truncate(size); f.WriteAt([]byte("Data"), 1<<20) },
		"other place": func(f *os.File) { f.Truncate(size); f.WriteAt([]byte("data"), 2<<20) },
		"at the end":  func(f *os.File) { f.Truncate(size - 4); f.WriteAt([]byte("data"), size-4) },
	} {
		s := sum(write)
		if again := sum(write); again != s {
			t.Errorf("%s: two files, two hashes", name)
		}
		if other, ok := seen[s]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[s] = name
	}
}

func TestShellWord(t *testing.T) {
	for _, s := range []string{"plain", "a b", "it's", `$HOME "x" \`} {
		if out, err := exec.Command("sh", "-c", "printf %s "+shellWord(s)).Output(); err != nil || string(out) != s {
			t.Errorf("%q became %q, %v", s, out, err)
		}
	}
}

func TestIdentityIsSavedAndRead(t *testing.T) {
	if _, err := (Identity{}).save(); err == nil {
		t.Error("an identity without a certificate was saved")
	}
	key, _, err := NewCSR()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := Identity{authority, &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}.save()
	if err != nil {
		t.Fatal(err)
	}
	read, err := saved.identity()
	if err != nil || !read.Authority.Equal(authority) || !key.Equal(read.Certificate.PrivateKey) {
		t.Errorf("read %v, %v", read, err)
	}
}
