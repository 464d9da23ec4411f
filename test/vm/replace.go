package vm

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"

	"github.com/dactyl-os/dactyl/ipc/dev"
)

// Binary reads the binary of a daemon that is in the machine's image.
func (r *Running) Binary(daemon string) []byte {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(r.Config.Image), "root/lib/dactyl", daemon))
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// Replace has a daemon of a dev or test image run another binary, as dactyl dev
// replace does.
func (r *Running) Replace(ctx context.Context, daemon string, binary []byte) (*dev.ReplaceDaemonResponse, error) {
	upload, err := dev.NewClient(r.Admin).ReplaceDaemon(ctx)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(binary)
	if err := upload.Send(&dev.ReplaceDaemonRequest{Name: daemon, Sha256: digest[:]}); err != nil {
		return upload.CloseAndReceive()
	}
	for len(binary) > 0 {
		n := min(len(binary), 1<<20)
		if err := upload.Send(&dev.ReplaceDaemonRequest{Chunk: binary[:n]}); err != nil {
			break // the answer says why
		}
		binary = binary[n:]
	}
	return upload.CloseAndReceive()
}
