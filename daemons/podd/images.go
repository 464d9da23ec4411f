package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// Media types: OCI's, and Docker's that mean the same.
const (
	typeIndex      = "application/vnd.oci.image.index.v1+json"
	typeManifest   = "application/vnd.oci.image.manifest.v1+json"
	typeConfig     = "application/vnd.oci.image.config.v1+json"
	typeLayer      = "application/vnd.oci.image.layer.v1.tar"
	typeLayerGzip  = typeLayer + "+gzip"
	typeLayerZstd  = typeLayer + "+zstd"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
)

// layerTypes are the ones that containerd unpacks.
var layerTypes = []string{typeLayer, typeLayerGzip, typeLayerZstd, dockerLayer, dockerLayer + ".gzip", dockerLayer + ".zstd"}

// Labels by which containerd knows what keeps what: what nothing refers to is
// collected.
const (
	refersToContent  = "containerd.io/gc.ref.content."
	refersToSnapshot = "containerd.io/gc.ref.snapshot."
)

// Annotations of a descriptor that say what an image is called.
const (
	annotationName = "io.containerd.image.name"          // the full name
	annotationRef  = "org.opencontainers.image.ref.name" // a tag, or the full name
)

// descriptor refers to a blob, as in the OCI image specification 1.1.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

func (p platform) String() string { return p.OS + "/" + p.Architecture }

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// ours is what images must be for.
var ours = platform{"linux", "amd64"}

// image is one image of an archive, resolved for this machine.
type image struct {
	names   []string
	target  descriptor // what the names stand for: a manifest, or an index of several
	config  descriptor // its digest is the image's id
	layers  []descriptor
	diffIDs []string // digests of the layers, unpacked
	size    int64    // of all that is needed of it
	made    []byte   // its manifest, where the archive had none
	keeps   []keeping
}

// keeping is what keeps other blobs and snapshots from being collected.
type keeping struct {
	digest string // of the blob that refers to them
	labels map[string]string
}

// reader returns a blob's bytes; its error is an outside one.
type reader func(blob) ([]byte, error)

// images says which images the archive holds. A name that is not empty is what its
// one image is called, whatever the archive says.
func (a *archive) images(name string, read reader) ([]image, error) {
	var all []image
	var err error
	switch dir := a.folder(); {
	case a.layout != nil && a.index != nil:
		all, err = a.ofLayout(read)
	case a.manifest != nil:
		all, err = a.ofDocker(read)
	case dir != "":
		return nil, bad("the archive has its image in the folder %s: pack the folder's contents (tar -C %s -cf image.tar .)", dir, dir)
	default:
		return nil, bad("this is neither what docker save writes nor an OCI image layout: the archive has no manifest.json, and not both oci-layout and index.json")
	}
	if err != nil {
		return nil, err
	}
	return all, call(all, name)
}

// folder returns the folder of the archive in which an image is that should be at its
// root, or "".
func (a *archive) folder() string {
	var all []string
	for name := range a.blobs {
		if base := path.Base(name); base == "index.json" || base == "manifest.json" {
			all = append(all, path.Dir(name))
		}
	}
	if all == nil {
		return ""
	}
	return slices.Min(all)
}

// call gives the images their names.
func call(all []image, name string) error {
	switch {
	case len(all) == 0:
		return bad("the archive holds no image")
	case name != "" && len(all) > 1:
		return bad("the archive holds %d images, which cannot all be called %s", len(all), name)
	case name != "":
		all[0].names = []string{name}
	}
	given := map[string]string{} // name → image
	for i := range all {
		full, err := fullNames(all[i].names)
		if err != nil {
			return err
		}
		id := all[i].config.Digest
		if len(full) == 0 {
			return bad("the archive does not say what image %s is called: give it a name", id)
		}
		for _, n := range full {
			if other := given[n]; other != "" && other != id {
				return bad("the archive calls two images %s: %s and %s", n, other, id)
			}
			given[n] = id
		}
		all[i].names = full
	}
	return nil
}

// fullNames returns the names in full, each once. What names an image by its digest
// alone is left out.
func fullNames(names []string) ([]string, error) {
	var full []string
	for _, n := range names {
		if n = withoutDigest(n); n == "" {
			continue
		}
		f, err := fullName(n)
		if err != nil {
			return nil, err
		}
		full = append(full, f)
	}
	slices.Sort(full)
	return slices.Compact(full), nil
}

// withoutDigest returns what a name says besides the digest: app:1 of
// app:1@sha256:HEX. Where nothing is left that names one image, it returns "".
func withoutDigest(name string) string {
	before, digest, cut := strings.Cut(name, "@")
	switch {
	case digestPattern.MatchString(name), digestPattern.MatchString("sha256:" + name):
		return ""
	case !cut || !digestPattern.MatchString(digest):
		return name
	case strings.Contains(before[strings.LastIndexByte(before, '/')+1:], ":"):
		return before
	}
	return ""
}

// fullName turns a short name into the one that the kubelet uses: busybox is
// docker.io/library/busybox:latest.
func fullName(name string) (string, error) {
	if digestPattern.MatchString(name) {
		return "", bad("%q is an image's digest: a name with a tag is wanted", name)
	}
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", bad("%q is not an image's name: %v", name, err)
	}
	if _, digested := named.(reference.Digested); digested {
		return "", bad("%q names an image by its digest: a name with a tag is wanted", name)
	}
	return named.String(), nil
}

// references are all that an image is found by: its names and, where its digest is
// the one that it has everywhere, each name with the digest instead of the tag.
func (i *image) references() []string {
	all := slices.Clone(i.names)
	for _, name := range i.names {
		if i.made == nil {
			all = append(all, name[:strings.LastIndexByte(name, ':')]+"@"+i.target.Digest)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// ofDocker reads manifest.json: a list of images with paths of their parts.
func (a *archive) ofDocker(read reader) ([]image, error) {
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := decode("manifest.json", a.manifest, &list); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, bad("manifest.json of the archive lists no image: kaniko writes it so without --destination; build again with --destination NAME:TAG (and --no-push)")
	}
	var all []image
	for _, entry := range list {
		i := image{names: entry.RepoTags}
		config, ok := a.file(entry.Config)
		if !ok {
			return nil, bad("the archive lacks %s, which its manifest.json names", entry.Config)
		}
		i.config = descriptor{MediaType: typeConfig, Digest: config.digest, Size: config.size}
		for _, name := range entry.Layers {
			layer, ok := a.file(name)
			if !ok {
				return nil, bad("the archive lacks %s, which its manifest.json names", name)
			}
			i.layers = append(i.layers, descriptor{MediaType: layer.layerType(), Digest: layer.digest, Size: layer.size})
		}
		i.makeManifest()
		if err := i.complete(a, read); err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

// layerType tells from a layer's first bytes how it is compressed.
func (b blob) layerType() string {
	switch {
	case strings.HasPrefix(b.begin, gzipMagic):
		return typeLayerGzip
	case b.begin == zstdMagic:
		return typeLayerZstd
	}
	return typeLayer
}

// makeManifest writes what docker save leaves out.
func (i *image) makeManifest() {
	m := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{2, typeManifest, i.config, i.layers}
	text, err := json.Marshal(m)
	if err != nil {
		panic("BUG: a manifest that is no JSON: " + err.Error())
	}
	i.made = text
	i.target = descriptor{MediaType: typeManifest, Digest: digestOf(text), Size: int64(len(text))}
	i.keepConfig(i.target.Digest)
}

func digestOf(text []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(text)) }

// ofLayout reads index.json: descriptors of manifests and of indexes of manifests,
// with names as annotations.
func (a *archive) ofLayout(read reader) ([]image, error) {
	var index struct{ Manifests []descriptor }
	if err := decode("index.json", a.index, &index); err != nil {
		return nil, err
	}
	byDigest := map[string]*image{}
	var all []*image
	for _, d := range index.Manifests {
		name := nameOf(d)
		if name == "" && d.Platform != nil && *d.Platform != ours {
			continue // a part of an image that is for other machines
		}
		i := byDigest[d.Digest]
		if i == nil {
			i = &image{target: d}
			if err := i.resolve(a, d, read, 0); err != nil {
				return nil, err
			}
			byDigest[d.Digest] = i
			all = append(all, i)
		}
		if name != "" {
			i.names = append(i.names, name)
		}
	}
	var out []image
	for _, i := range all {
		out = append(out, *i)
	}
	return out, nil
}

// nameOf returns what a descriptor says of its image's name. Neither a tag alone nor a
// digest alone names an image.
func nameOf(d descriptor) string {
	if name := withoutDigest(d.Annotations[annotationName]); name != "" {
		return name
	}
	if ref := withoutDigest(d.Annotations[annotationRef]); strings.ContainsAny(ref, "/:") {
		return ref
	}
	return ""
}

// resolve follows d to the manifest for this machine. Indexes in indexes are
// allowed, but nobody nests them deeper than this.
func (i *image) resolve(a *archive, d descriptor, read reader, depth int) error {
	const deepest = 2
	var doc struct {
		Manifests []descriptor
		Config    *descriptor
		Layers    []descriptor
	}
	if err := a.parse(d, read, &doc); err != nil {
		return err
	}
	switch {
	case isManifest(d) && doc.Config != nil && doc.Manifests == nil:
		i.config, i.layers = *doc.Config, doc.Layers
		i.size += d.Size
		i.keepConfig(d.Digest)
		return i.complete(a, read)
	case !isIndex(d) || doc.Config != nil || depth == deepest:
		return bad("%s of the archive is not the %q that it is said to be", d.Digest, d.MediaType)
	}
	for n, m := range doc.Manifests {
		if m.Platform != nil && *m.Platform != ours {
			continue
		}
		if _, ok := a.byDigest(m.Digest); !ok {
			continue
		}
		i.size += d.Size
		i.keep(d.Digest, refersToContent+fmt.Sprintf("m.%d", n), m.Digest)
		return i.resolve(a, m, read, depth+1)
	}
	return bad("the archive holds no image for %s: %s has %s", ours, d.Digest, platforms(doc.Manifests))
}

func isManifest(d descriptor) bool {
	return d.MediaType == typeManifest || d.MediaType == dockerManifest
}
func isIndex(d descriptor) bool { return d.MediaType == typeIndex || d.MediaType == dockerList }

func platforms(all []descriptor) string {
	var names []string
	for _, d := range all {
		if d.Platform != nil && d.Platform.OS != "unknown" {
			names = append(names, d.Platform.String())
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}

// parse reads the document that d refers to.
func (a *archive) parse(d descriptor, read reader, into any) error {
	b, err := a.find(d)
	if err != nil {
		return err
	}
	if b.size > maxDocument {
		return bad("%s of the archive has %d bytes: a document has at most %d", d.Digest, b.size, maxDocument)
	}
	text, err := read(b)
	if err != nil {
		return err
	}
	return decode(d.Digest, text, into)
}

// decode reads a document, whose name is for messages.
func decode(name string, text []byte, into any) error {
	err := json.Unmarshal(text, into)
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind) && kind.Field == "":
		return bad("%s of the archive is %s, which is wrong there", name, kind.Value)
	case errors.As(err, &kind):
		return bad("%s of the archive: %s is %s, which is wrong there", name, kind.Field, kind.Value)
	}
	return bad("%s of the archive is no JSON: %v", name, err)
}

func (a *archive) find(d descriptor) (blob, error) {
	b, ok := a.byDigest(d.Digest)
	switch {
	case !digestPattern.MatchString(d.Digest):
		return b, bad("the archive refers to %q, which is no SHA-256 digest", d.Digest)
	case !ok:
		return b, bad("the archive lacks %s, which it refers to", d.Digest)
	case b.size != d.Size:
		return b, bad("%s of the archive has %d bytes and should have %d", d.Digest, b.size, d.Size)
	}
	return b, nil
}

// complete checks an image's configuration and that all layers are there.
func (i *image) complete(a *archive, read reader) error {
	var config struct {
		platform
		RootFS struct {
			Type    string   `json:"type"`
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := a.parse(i.config, read, &config); err != nil {
		return err
	}
	switch {
	case config.platform == (platform{}):
		return bad("image %s does not say what machine it is for: build it for %s (crane mutate --set-platform=%s adds that)", i.config.Digest, ours, ours)
	case config.platform != ours:
		return bad("image %s is for %s: this machine is %s", i.config.Digest, config.platform, ours)
	case config.RootFS.Type != "layers" || len(i.layers) == 0:
		return bad("image %s is not made of layers", i.config.Digest)
	case len(config.RootFS.DiffIDs) != len(i.layers):
		return bad("image %s has %d layers and digests of %d", i.config.Digest, len(i.layers), len(config.RootFS.DiffIDs))
	}
	if n := slices.IndexFunc(config.RootFS.DiffIDs, func(id string) bool { return !digestPattern.MatchString(id) }); n >= 0 {
		return bad("image %s has a layer %q, which is no SHA-256 digest", i.config.Digest, config.RootFS.DiffIDs[n])
	}
	i.diffIDs = config.RootFS.DiffIDs
	i.size += i.config.Size + int64(len(i.made))
	for _, l := range i.layers {
		if !slices.Contains(layerTypes, l.MediaType) {
			return bad("image %s has a layer of type %q, which cannot be unpacked", i.config.Digest, l.MediaType)
		}
		if _, err := a.find(l); err != nil {
			return err
		}
		i.size += l.Size
	}
	i.keep(i.config.Digest, refersToSnapshot+snapshotter, chainIDs(i.diffIDs)[len(i.diffIDs)-1])
	return nil
}

// keepConfig labels the manifest with what it keeps: the configuration, which in turn
// keeps the unpacked layers. Nothing keeps the layers as they came, which would be
// there twice.
func (i *image) keepConfig(manifest string) {
	i.keep(manifest, refersToContent+"config", i.config.Digest)
}

func (i *image) keep(from, label, to string) {
	for _, k := range i.keeps {
		if k.digest == from {
			k.labels[label] = to
			return
		}
	}
	i.keeps = append(i.keeps, keeping{from, map[string]string{label: to}})
}

// chainIDs name the filesystems that layers make, each on top of those before it,
// as in the OCI image specification.
func chainIDs(diffIDs []string) []string {
	ids := slices.Clone(diffIDs)
	for n := 1; n < len(ids); n++ {
		ids[n] = digestOf([]byte(ids[n-1] + " " + ids[n]))
	}
	return ids
}

// imageKey turns what a person calls an image into what it is found by: a short
// name, a name with a digest, or an id with or without its "sha256:".
func imageKey(name string) (string, error) {
	if digestPattern.MatchString(name) {
		return name, nil
	}
	if id := "sha256:" + name; digestPattern.MatchString(id) {
		return id, nil
	}
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", bad("%q is neither an image's name nor its id: %v", name, err)
	}
	return named.String(), nil
}
