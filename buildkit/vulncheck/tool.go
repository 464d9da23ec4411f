package vulncheck

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// toolVersion is the govulncheck that is asked.
const toolVersion = "v1.8.0"

// official is where Go keeps its database.
const official = "https://vuln.go.dev"

// Database is one that was reached.
type Database struct {
	URL      string
	Modified string // names its state
}

// ErrNoDatabase says that nothing can be said.
var ErrNoDatabase = errors.New("no database of vulnerabilities can be reached; GOVULNDB may name a copy, as file:///…")

// OpenDatabase reaches for the database that $GOVULNDB names, or Go's own.
func OpenDatabase(ctx context.Context) (Database, error) {
	url := os.Getenv("GOVULNDB")
	if url == "" {
		url = official
	}
	text, err := index(ctx, url)
	if err != nil {
		return Database{}, fmt.Errorf("%w: %w", ErrNoDatabase, err)
	}
	var db struct{ Modified string }
	if err := json.Unmarshal(text, &db); err != nil || db.Modified == "" {
		return Database{}, fmt.Errorf("%w: %s has no index (%v)", ErrNoDatabase, url, err)
	}
	return Database{url, db.Modified}, nil
}

// index fetches the file that says when the database was changed.
func index(ctx context.Context, url string) ([]byte, error) {
	if dir, ok := strings.CutPrefix(url, "file://"); ok {
		return os.ReadFile(filepath.Join(dir, "index", "db.json"))
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/index/db.json.gz", nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New(answer.Status)
	}
	plain, err := gzip.NewReader(answer.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(plain, 1<<20))
}

// tool is govulncheck and what it said before.
type tool struct {
	db      Database
	program string
	answers string // directory
}

func openTool(ctx context.Context, db Database) (tool, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return tool{}, err
	}
	dir := filepath.Join(cache, "dactyl", "vulncheck", toolVersion)
	t := tool{db, filepath.Join(dir, "govulncheck"), filepath.Join(dir, "answers")}
	if err := os.MkdirAll(t.answers, 0o755); err != nil {
		return t, err
	}
	if _, err := os.Stat(t.program); err == nil {
		return t, nil
	}
	cmd := exec.CommandContext(ctx, "go", "install", "golang.org/x/vuln/cmd/govulncheck@"+toolVersion)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return t, fmt.Errorf("install govulncheck: %w\n%s", err, out)
	}
	return t, nil
}

// ask returns what govulncheck says of a program, or said before of the same one and the
// same database.
func (t tool) ask(ctx context.Context, program string, progress io.Writer) ([]byte, error) {
	answer, err := t.answer(program)
	if err != nil {
		return nil, err
	}
	if said, err := os.ReadFile(answer); err == nil {
		return said, nil
	}
	fmt.Fprintf(progress, "vulncheck: %s\n", program)
	cmd := exec.CommandContext(ctx, t.program, "-mode", "binary", "-format", "json", "-db", t.db.URL, program)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	said, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("govulncheck %s: %w\n%s", program, err, complaint.Bytes())
	}
	if err := os.WriteFile(answer+".tmp", said, 0o644); err != nil {
		return nil, err
	}
	return said, os.Rename(answer+".tmp", answer)
}

// answer is the file for a program and a state of the database.
func (t tool) answer(program string) (string, error) {
	f, err := os.Open(program)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", t.db.URL, t.db.Modified)
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", program, err)
	}
	return filepath.Join(t.answers, fmt.Sprintf("%x.json", h.Sum(nil))), nil
}
