package licenses

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed may be linked into programs of ours: they ask for their text and nothing
// more. Whoever adds one has read it.
var allowed = []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "Zlib"}

// allowedBeside may be linked into programs that others wrote: it asks for the source of
// the module itself, which is public, and for nothing of what it is linked with.
var allowedBeside = []string{"MPL-2.0"}

// enough is how much of a licence file, in percent, must be a licence that is
// known; the rest is names and years, and the words around two licences.
const enough = 85

// judged are modules whose files a person has read, because a program cannot know
// what they mean.
var judged = map[string]struct{ spdx, why string }{
	"github.com/docker/go-metrics":                  {"Apache-2.0", "its code; LICENSE.docs is for its documentation, which is not in the image"},
	"github.com/opencontainers/go-digest":           {"Apache-2.0", "its code; LICENSE.docs is for its documentation, which is not in the image"},
	"kernel.org/pub/linux/libs/security/libcap/psx": {"BSD-3-Clause", "its licence is BSD-3-Clause or GPL-2.0-only, at the taker's choice; only its Go files are linked"},
}

// identify reads the licence files of c and says which licence it is under, if that is one
// of those that it may be under.
func (c *Component) identify(dirs []string, root string, may []string) error {
	var err error
	if c.Texts, err = texts(dirs, root); err != nil {
		return fmt.Errorf("licences of %s: %w", c.Name, err)
	}
	if j, ok := judged[c.Name]; ok {
		c.SPDX = j.spdx
		return nil
	}
	c.SPDX, err = expression(c.Texts, may)
	if err != nil {
		return fmt.Errorf("%s %s: %w", c.Name, c.Version, err)
	}
	return nil
}

// expression recognises the licences in a component's files.
func expression(all []Text, may []string) (string, error) {
	found := map[string]bool{}
	for _, t := range all {
		if !isLicence(t.File) {
			continue // a notice or a patent grant comes on top of a licence
		}
		cover := licensecheck.Scan([]byte(t.Content))
		if cover.Percent < enough {
			return "", fmt.Errorf("%s is not a licence that is known: read it, then see judged in buildkit/licenses", t.File)
		}
		for _, m := range cover.Match {
			if !slices.Contains(may, m.ID) {
				return "", fmt.Errorf("%s: %s may not be linked into the image's programs", t.File, m.ID)
			}
			found[m.ID] = true
		}
	}
	if len(found) == 0 {
		return "", errors.New("no licence file")
	}
	return strings.Join(sorted(found), " AND "), nil
}

func isLicence(file string) bool {
	name := strings.ToLower(file[strings.LastIndex(file, "/")+1:])
	return strings.HasPrefix(name, "licen") || strings.HasPrefix(name, "copying")
}
