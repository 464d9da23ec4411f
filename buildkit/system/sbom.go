package system

import (
	"context"
	"path/filepath"

	"github.com/dactyl-os/dactyl/buildkit/licenses"
	"github.com/dactyl-os/dactyl/buildkit/sbom"
)

// writeSBOM writes out/MODE/dactyl.spdx.json: what is in the root directory of an image.
func writeSBOM(ctx context.Context, mode, version, root string, linked []licenses.Component) error {
	names := map[string]string{}
	for _, c := range linked {
		names[c.Name] = c.SPDX
	}
	return sbom.Write(ctx, filepath.Join(Dir(mode), "dactyl.spdx.json"), sbom.Image{
		Version: version, Mode: mode, Epoch: Epoch, Root: root, Licenses: names,
	})
}
