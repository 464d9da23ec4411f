package disk

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// toolPath is where Debian keeps the tools: mkfs.vfat and mke2fs are in sbin, which
// a user's PATH lacks.
const toolPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// run runs a tool in an environment of its own, so that nothing of the user's gets in.
func run(ctx context.Context, env []string, name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append([]string{toolPath, "LC_ALL=C"}, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
