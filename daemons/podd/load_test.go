package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/storage"
)

// disk is storaged with one volume.
type disk struct {
	storage.Server
	used atomic.Uint64
	size uint64
}

func (d *disk) ListMounts(context.Context, *storage.ListMountsRequest) (*storage.ListMountsResponse, error) {
	return &storage.ListMountsResponse{Mounts: []*storage.Mount{{Volume: "state"}, {Volume: "ephemeral", SizeBytes: d.size, UsedBytes: d.used.Load()}}}, nil
}

// podd serves p's containerd, with a disk.
func podd(t *testing.T, c *containerd, d *disk) pods.Client {
	t.Helper()
	return serve(t, newServer(c, storageOf(t, d), testVault(t), discard))
}

func storageOf(t *testing.T, d *disk) storage.Client {
	return storage.NewClient(ipctest.Pair(t, map[string][]string{storage.Service: {"ListMounts"}}, func(r ipc.Registrar) { storage.Register(r, d) }))
}

func serve(t *testing.T, s *server) pods.Client {
	may := map[string][]string{pods.Service: {"GetRuntime", "ListPods", "ListImages", "LoadImage", "ReplaceImage", "RemoveImage", "SetRegistryCredential", "RemoveRegistryCredential", "ListRegistryCredentials"}}
	return pods.NewClient(ipctest.Pair(t, may, func(r ipc.Registrar) { pods.Register(r, s) }))
}

// send uploads an archive in chunks.
func send(ctx context.Context, client pods.Client, header *pods.LoadImageHeader, archive io.Reader) (*pods.LoadImageResponse, error) {
	up, err := client.LoadImage(ctx)
	if err != nil {
		return nil, err
	}
	return sendOn(up, header, archive)
}

func sendOn(up *ipc.Upload[*pods.LoadImageRequest, *pods.LoadImageResponse], header *pods.LoadImageHeader, archive io.Reader) (*pods.LoadImageResponse, error) {
	var err error
	err = up.Send(&pods.LoadImageRequest{Header: header})
	for chunk := make([]byte, 64<<10); err == nil; {
		var n int
		if n, err = archive.Read(chunk); n > 0 {
			err = up.Send(&pods.LoadImageRequest{Chunk: bytes.Clone(chunk[:n])})
		}
	}
	return up.CloseAndReceive()
}

func upload1(t *testing.T, client pods.Client, name string, archive []byte) (*pods.LoadImageResponse, error) {
	t.Helper()
	return send(t.Context(), client, &pods.LoadImageHeader{SizeBytes: uint64(len(archive)), Name: name}, bytes.NewReader(archive))
}

// filling is an archive during which the disk fills.
type filling struct {
	io.Reader
	disk *disk
}

func (f *filling) Read(p []byte) (int, error) {
	f.disk.used.Store(f.disk.size)
	return f.Reader.Read(p)
}

func roomy() *disk { return &disk{size: 100 << 30} }

// indexOf puts manifests into one index, as buildx does for several platforms.
func indexOf(all ...descriptor) []byte {
	return text(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": all})
}

// multi is an image for two machines, of which the archive has ours only, and an
// attestation.
func multi(name string) []byte {
	mine, blobs := small("multi").manifest()
	other, _ := small("other").manifest()
	attested := []byte(`{"schemaVersion":2,"mediaType":"` + typeManifest + `"}`)
	d := []descriptor{refTo(typeManifest, other), refTo(typeManifest, mine), refTo(typeManifest, attested)}
	d[0].Platform, d[1].Platform, d[2].Platform = &platform{"linux", "arm64"}, &platform{"linux", "amd64"}, &platform{"unknown", "unknown"}
	index := indexOf(d...)
	top := refTo(typeIndex, index)
	top.Annotations = map[string]string{annotationName: name}
	return ociArchive(append(blobs, blobEntry(index), blobEntry(attested)), top)
}

func TestImagesOfEveryKindAreLoaded(t *testing.T) {
	p := startContainerd(t)
	client := podd(t, p.c, roomy())
	zstd := small("zstd")
	zstd.layers[0].kind = typeLayerZstd
	two, twoBlobs := small("first").manifest()
	other, otherBlobs := small("second").manifest()
	first, second := refTo(typeManifest, two), refTo(typeManifest, other)
	first.Annotations = map[string]string{annotationName: "example.org/first:1"}
	again := first
	again.Annotations = map[string]string{annotationName: "example.org/first:2"}
	second.Annotations = map[string]string{annotationRef: "example.org/second:1"}

	for _, c := range []struct {
		kind, name string
		archive    []byte
		want       []string // names
	}{
		{"docker save", "", small("docker").docker("busybox"), []string{"docker.io/library/busybox:latest"}},
		{"docker save, two names", "", small("docker2").docker("a/b:1", "example.org/c"), []string{"docker.io/a/b:1", "example.org/c:latest"}},
		{"docker save, gzip", "", gzipped(small("docker3").docker("d:3")), []string{"docker.io/library/d:3"}},
		{"OCI, containerd's name", "", small("oci").oci(annotationName, "quay.io/x/y:7"), []string{"quay.io/x/y:7"}},
		{"OCI, podman's name", "", small("podman").oci(annotationRef, "localhost/x:7"), []string{"localhost/x:7"}},
		{"OCI, a tag and a given name", "example.org/given", small("given").oci(annotationRef, "7"), []string{"example.org/given:latest"}},
		{"OCI, zstd", "", zstd.oci(annotationName, "z"), []string{"docker.io/library/z:latest"}},
		{"OCI, gzip", "", gzipped(small("gz").oci(annotationName, "g")), []string{"docker.io/library/g:latest"}},
		{"OCI, several machines", "", multi("multi:1"), []string{"docker.io/library/multi:1"}},
		{"OCI, two images", "", ociArchive(append(twoBlobs, otherBlobs...), first, again, second), []string{"example.org/first:1", "example.org/first:2", "example.org/second:1"}},
		{"OCI, the same again", "", small("oci").oci(annotationName, "quay.io/x/y:7"), []string{"quay.io/x/y:7"}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			r, err := upload1(t, client, c.name, c.archive)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, i := range r.Images {
				names = append(names, i.Names...)
				for _, name := range i.Names {
					if got, err := p.c.picture(t.Context(), name); err != nil || got.GetId() != i.Id {
						t.Errorf("the kubelet finds %v under %s, %v", got, name, err)
					}
				}
				if i.SizeBytes == 0 || !digestPattern.MatchString(i.Digest) {
					t.Errorf("%v", i)
				}
			}
			if !slices.Equal(names, c.want) {
				t.Errorf("names %q, want %q", names, c.want)
			}
		})
	}
	inventory := p.inventory()
	for _, none := range []string{"lease", "unfinished", "extract"} {
		if strings.Contains(inventory, none) {
			t.Errorf("something is left over:\n%s", inventory)
		}
	}
	listed, err := client.ListImages(t.Context(), &pods.ListImagesRequest{})
	if err != nil || len(listed.Images) != 11 || listed.DiskFreeBytes == 0 {
		t.Errorf("%v, %v", listed, err)
	}
	for _, i := range listed.Images {
		if !i.Loaded || i.System {
			t.Errorf("the kubelet would collect it, or a person cannot remove it: %v", i)
		}
	}

	// Everything outlives containerd and podd.
	p.end()
	p.start()
	p.until("images are there again", func() error {
		again, err := client.ListImages(t.Context(), &pods.ListImagesRequest{})
		if err == nil && len(again.Images) != len(listed.Images) {
			return io.EOF
		}
		return err
	})
	if got := p.inventory(); got != inventory {
		t.Errorf("after a restart:\n%s\nbefore:\n%s", got, inventory)
	}
	for _, i := range listed.Images {
		key := i.Id
		if len(i.Names) > 0 {
			key = i.Names[0]
		}
		if _, err := client.RemoveImage(t.Context(), &pods.RemoveImageRequest{Name: key}); err != nil {
			t.Error(err)
		}
	}
	p.until("nothing is left", func() error {
		if left := p.inventory(); left != "" {
			return status.Error(codes.Internal, left)
		}
		return nil
	})
}

func TestARefusedArchiveLeavesNothing(t *testing.T) {
	p := startContainerd(t)
	d := roomy()
	client := podd(t, p.c, d)
	if _, err := upload1(t, client, "", small("kept").docker("kept")); err != nil {
		t.Fatal(err)
	}
	before := p.inventory()

	good := small("good").docker("good")
	oci := small("good").oci(annotationName, "good")
	arm := small("good")
	arm.arch = "arm64"
	noTar := recipe{layers: []layer{{bytes.Repeat([]byte("this is no tar "), 1000), typeLayer}}}
	foreign := small("good")
	foreign.layers[0].kind = "application/vnd.example.secret"
	lying := small("good")
	lyingManifest, lyingBlobs := lying.manifest()
	wrongConfig := bytes.Replace(lying.config(), []byte(strings.TrimPrefix(digestOf(lying.layers[1].tar), "sha256:")), bytes.Repeat([]byte("0"), 64), 1)
	lyingManifest = bytes.ReplaceAll(lyingManifest, []byte(digestOf(lying.config())), []byte(digestOf(wrongConfig)))
	lyingTop := refTo(typeManifest, lyingManifest)
	lyingTop.Annotations = map[string]string{annotationName: "lying"}
	_, otherBlobs := small("other").manifest()

	for _, c := range []struct {
		what, name string
		archive    []byte
		size       uint64 // announced; 0: its size
		code       codes.Code
		says       string
	}{
		{"nothing", "", nil, 0, codes.InvalidArgument, "empty"},
		{"noise", "", bytes.Repeat([]byte("noise"), 10000), 0, codes.InvalidArgument, "cannot be read"},
		{"another tar", "", tarOf(entry{name: "etc/passwd", data: []byte("x")}), 0, codes.InvalidArgument, "neither what docker save writes"},
		{"zstd around all", "", zstandard(good), 0, codes.InvalidArgument, "zstd -d"},
		{"a damaged gzip", "", gzipped(good)[:300], 0, codes.InvalidArgument, "cut off"},
		{"less than announced", "", good, uint64(len(good)) + 1, codes.InvalidArgument, "bytes came"},
		{"more than announced", "", good, uint64(len(good)) - 1, codes.InvalidArgument, "announced"},
		{"damaged", "", bytes.Replace(oci, []byte("goodgood"), []byte("goodbaad"), 1), 0, codes.InvalidArgument, "damaged"},
		{"for another machine", "", arm.docker("good"), 0, codes.InvalidArgument, "linux/arm64"},
		{"a layer that is no tar", "", noTar.docker("good"), 0, codes.InvalidArgument, "cannot be unpacked"},
		{"a layer of no known type", "", foreign.oci(annotationName, "good"), 0, codes.InvalidArgument, "application/vnd.example.secret"},
		{"a layer that is another", "", ociArchive(append(lyingBlobs, blobEntry(wrongConfig), blobEntry(lyingManifest)), lyingTop), 0, codes.InvalidArgument, "the image says"},
		{"without a name", "", small("good").docker(), 0, codes.InvalidArgument, "give it a name"},
		{"with a tag only", "", small("good").oci(annotationRef, "latest"), 0, codes.InvalidArgument, "give it a name"},
		{"a name that is none", "", small("good").docker("UPPER"), 0, codes.InvalidArgument, "UPPER"},
		{"a given name that is none", "a b", good, 0, codes.InvalidArgument, "a b"},
		{"without its blobs", "", ociArchive(otherBlobs, lyingTop), 0, codes.InvalidArgument, "lacks"},
		{"larger than the disk", "", good, 90 << 30, codes.ResourceExhausted, "stay free"},
	} {
		t.Run(c.what, func(t *testing.T) {
			size := c.size
			if size == 0 {
				size = uint64(len(c.archive))
			}
			r, err := send(t.Context(), client, &pods.LoadImageHeader{SizeBytes: size, Name: c.name}, bytes.NewReader(c.archive))
			if status.Code(err) != c.code || !strings.Contains(status.Convert(err).Message(), c.says) {
				t.Fatalf("%v, %v", r, err)
			}
			t.Log(status.Convert(err).Message())
			if after := p.inventory(); after != before {
				t.Errorf("left over:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
	t.Run("cut off anywhere", func(t *testing.T) {
		for _, whole := range [][]byte{good, oci} {
			for cut := 512; cut < len(whole)-2048; cut += len(whole) / 9 {
				_, err := send(t.Context(), client, &pods.LoadImageHeader{}, bytes.NewReader(whole[:cut]))
				if status.Code(err) != codes.InvalidArgument {
					t.Errorf("cut at %d of %d: %v", cut, len(whole), err)
				}
			}
		}
		if after := p.inventory(); after != before {
			t.Errorf("left over:\n%s\nbefore:\n%s", after, before)
		}
	})
	t.Run("the disk fills meanwhile", func(t *testing.T) {
		bomb := recipe{layers: []layer{{tarOf(entry{name: "zeros", data: make([]byte, 256<<20)}), typeLayer}}}
		_, err := send(t.Context(), client, &pods.LoadImageHeader{}, &filling{bytes.NewReader(bomb.docker("bomb")), d})
		if status.Code(err) != codes.ResourceExhausted {
			t.Error(err)
		}
		d.used.Store(0)
		if after := p.inventory(); after != before {
			t.Errorf("left over:\n%s\nbefore:\n%s", after, before)
		}
	})
	t.Run("the caller goes away", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		up, err := client.LoadImage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		up.Send(&pods.LoadImageRequest{Header: &pods.LoadImageHeader{}})
		up.Send(&pods.LoadImageRequest{Chunk: good[:len(good)/2]})
		p.until("the upload has begun", func() error {
			if p.inventory() == before {
				return io.EOF
			}
			return nil
		})
		if _, err := upload1(t, client, "", good); status.Code(err) != codes.Aborted {
			t.Errorf("a second upload: %v", err)
		}
		cancel()
		p.until("nothing is left", func() error {
			if after := p.inventory(); after != before {
				return status.Error(codes.Internal, after)
			}
			return nil
		})
	})
}

func TestTheSystemsImagesAreThere(t *testing.T) {
	p := startContainerd(t)
	client := podd(t, p.c, roomy())
	dir := t.TempDir()
	pause, err := os.ReadFile(built(t, "pause", "pause.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pause.tar"), pause, 0o644); err != nil {
		t.Fatal(err)
	}
	const name = "dactyl.invalid/pause:1"
	if err := importSystem1(t.Context(), p.c, dir, discard); err != nil {
		t.Fatal(err)
	}
	first := p.inventory()
	got, err := p.c.picture(t.Context(), name)
	if err != nil || !got.GetPinned() {
		t.Fatalf("%v, %v", got, err)
	}
	// A podd that was killed leaves a lease behind.
	if _, _, err := p.c.lease(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := importSystem1(t.Context(), p.c, dir, discard); err != nil {
		t.Fatal(err)
	}
	if again := p.inventory(); again != first {
		t.Errorf("importing twice changes something:\n%s\nbefore:\n%s", again, first)
	}
	for _, key := range []string{name, got.Id, strings.TrimPrefix(got.Id, "sha256:")} {
		if _, err := client.RemoveImage(t.Context(), &pods.RemoveImageRequest{Name: key}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("remove %s: %v", key, err)
		}
	}
	if _, err := upload1(t, client, name, small("evil").docker("evil")); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("an image that calls itself the pause image: %v", err)
	}
	if after := p.inventory(); after != first {
		t.Errorf("left over:\n%s\nbefore:\n%s", after, first)
	}
}

// An operator cannot make a name stand for another image: a privileged pod may name it.
func TestANameMovesOnlyWhereItIsReplaced(t *testing.T) {
	p := startContainerd(t)
	client := podd(t, p.c, roomy())
	if _, err := upload1(t, client, "", small("old").docker("moving")); err != nil {
		t.Fatal(err)
	}
	const name = "docker.io/library/moving:latest"
	old, err := p.c.picture(t.Context(), name)
	if err != nil || !old.GetPinned() {
		t.Fatalf("what a person loaded is not kept: %v, %v", old, err)
	}
	before := p.inventory()
	if _, err := upload1(t, client, "", small("new").docker("other:1", "moving")); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a name moved: %v", err)
	}
	if after := p.inventory(); after != before {
		t.Errorf("left over:\n%s\nbefore:\n%s", after, before)
	}
	// The same image in another wrapping is no other image.
	if _, err := upload1(t, client, "", small("old").oci(annotationName, "moving")); err != nil {
		t.Errorf("the same image as a layout: %v", err)
	}

	up, err := client.ReplaceImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := sendOn(up, &pods.LoadImageHeader{}, bytes.NewReader(small("new").docker("moving")))
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.c.picture(t.Context(), name)
	if err != nil || got.GetId() != r.Images[0].Id || !got.GetPinned() {
		t.Errorf("%v, %v", got, err)
	}
	// The old one is there without a name, as after a pull; the kubelet collects it.
	left, err := p.c.picture(t.Context(), old.Id)
	if err != nil || left.GetPinned() {
		t.Errorf("the old image: %v, %v", left, err)
	}
	listed, err := client.ListImages(t.Context(), &pods.ListImagesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range listed.Images {
		if want := i.Id != old.Id; i.System || i.Loaded != want {
			t.Errorf("%v", i)
		}
	}
}

// When the last step fails, the steps before it are taken back.
func TestNamesAreTakenBack(t *testing.T) {
	p := startContainerd(t)
	client := podd(t, p.c, roomy())
	if _, err := upload1(t, client, "", small("old").docker("moving")); err != nil {
		t.Fatal(err)
	}
	before := p.inventory()
	// The second image's id is not what the kubelet will find under its name.
	l := loading{c: p.c, replace: true}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	leased, end, err := p.c.lease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	a, err := readArchive(bytes.NewReader(small("new").docker("moving", "new")), func(size int64, r io.Reader) (string, error) { return p.c.put(leased, size, r) })
	if err != nil {
		t.Fatal(err)
	}
	all, err := a.images("", func(b blob) ([]byte, error) { return p.c.get(leased, b) })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.prepare(leased, &all[0]); err != nil {
		t.Fatal(err)
	}
	all = append(all, all[0])
	all[1].names = []string{"docker.io/library/last:1"}
	all[1].config.Digest = digestOf(nil)
	if err := l.names(leased, all); err == nil {
		t.Fatal("names were given")
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	p.until("all is as before", func() error {
		if after := p.inventory(); after != before {
			return status.Errorf(codes.Internal, "%s\nbefore:\n%s", after, before)
		}
		return nil
	})
}
