package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// credential is what the kubelet shows to a registry.
type credential struct {
	Registry string `json:"registry"` // HOST[:PORT][/PATH]
	Username string `json:"username"`
	Password string `json:"password"`
}

const (
	// maxCredentials is far more registries than a machine pulls from.
	maxCredentials = 64
	maxUsername    = 256
	// maxPassword has room for the keys of a cloud's service account, which are JSON.
	maxPassword = 16 << 10
)

// wrong says what a credential cannot be used for, and what would be right; "" if it can.
func (c credential) wrong() string {
	if why := wrongRegistry(c.Registry); why != "" {
		return why
	}
	switch {
	case c.Username == "" || len(c.Username) > maxUsername || strings.ContainsFunc(c.Username, isControl) || strings.Contains(c.Username, ":"):
		return fmt.Sprintf("%q is no user name: want 1 to %d bytes without a colon", c.Username, maxUsername)
	case c.Password == "" || len(c.Password) > maxPassword || strings.Contains(c.Password, "\x00"):
		return fmt.Sprintf("a password has 1 to %d bytes, none of them zero: %d bytes came", maxPassword, len(c.Password))
	}
	return ""
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// wrongRegistry says why no image's name can begin so.
func wrongRegistry(name string) string {
	const want = "want a registry as images' names begin, such as docker.io or registry.example.org:5000, or a part of one, such as registry.example.org/team"
	host, below, _ := strings.Cut(name, "/")
	// The name of an image in it has to be one, with this host as its registry.
	image, err := reference.ParseNormalizedNamed(name + "/image")
	if err != nil || reference.Domain(image) != host || strings.ContainsAny(below, ":@") {
		return fmt.Sprintf("%q is no registry: %s", name, want)
	}
	return ""
}

// with returns all credentials with c in place of another for the same registry.
func with(all []credential, c credential) []credential {
	all = append(without(all, c.Registry), c)
	slices.SortFunc(all, func(a, b credential) int { return cmp.Compare(a.Registry, b.Registry) })
	return all
}

func without(all []credential, registry string) []credential {
	return slices.DeleteFunc(slices.Clone(all), func(c credential) bool { return c.Registry == registry })
}

// dockerHub is what Docker, and so the kubelet, calls docker.io in such a file.
const dockerHub = "https://index.docker.io/v1/"

// dockerConfig is the file that the kubelet reads: docker login's.
func dockerConfig(all []credential) []byte {
	type auth struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	auths := map[string]auth{}
	for _, c := range all {
		name := c.Registry
		if name == "docker.io" {
			name = dockerHub
		}
		auths[name] = auth{c.Username, c.Password}
	}
	text, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		panic("BUG: credentials that are no JSON: " + err.Error())
	}
	return append(text, '\n')
}
