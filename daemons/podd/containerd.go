package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/dactyl-os/dactyl/daemons/podd/internal/cri"
)

// What the kubelet's images are kept under.
const (
	namespace   = "k8s.io"
	snapshotter = "overlayfs"
	pinnedLabel = "io.cri-containerd.pinned"
	pinnedValue = "pinned"
	// loadedLabel marks the names that a person has given to an image. They are pinned,
	// so that the kubelet does not collect the image, but a person may remove them.
	loadedLabel = "dactyl.invalid/loaded"
	loadedValue = "yes"
)

const (
	// chunkBytes is what is sent to containerd at a time; it takes messages of 16 MiB.
	chunkBytes = 1 << 20
	// readBuffer is small: no answer is large, and kubed asks often enough that closing
	// the connection in between would cost more than keeping it.
	readBuffer = 4 << 10
)

// containerd is the machine's, as its own interface and the kubelet's (CRI) show it.
type containerd struct {
	conn      *grpc.ClientConn
	cri       cri.Client
	content   contentapi.ContentClient
	diff      diffapi.DiffClient
	images    imagesapi.ImagesClient
	leases    leasesapi.LeasesClient
	snapshots snapshotsapi.SnapshotsClient

	// loads is held while an archive is loaded: no two are at a time, so that every
	// lease of podd's that one finds is of a load that has ended.
	loads sync.Mutex
}

// newContainerd connects when it is first used, and again whenever containerd was
// started anew.
func newContainerd(socket string) (*containerd, error) {
	conn, err := grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the socket's owner and group are its protection
		grpc.WithReadBufferSize(readBuffer), grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second}}),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, in, out any, c *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return call(inNamespace(ctx), method, in, out, c, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, c *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(inNamespace(ctx), desc, c, method, opts...)
		}))
	if err != nil {
		return nil, err
	}
	return &containerd{
		conn: conn, cri: cri.Client{Conn: conn},
		content: contentapi.NewContentClient(conn), diff: diffapi.NewDiffClient(conn), images: imagesapi.NewImagesClient(conn),
		leases: leasesapi.NewLeasesClient(conn), snapshots: snapshotsapi.NewSnapshotsClient(conn),
	}, nil
}

func inNamespace(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
}

// leasePrefix marks leases as podd's.
const leasePrefix = "podd-"

// lease keeps what is made with the returned context until end is called, which
// returns when everything that nothing else refers to is gone. The lease has no expiry:
// containerd measures that by the wall clock, which may move by months while an archive
// is loaded. A lease that is left behind is ended by endLeases.
func (c *containerd) lease(ctx context.Context) (leased context.Context, end func() error, err error) {
	id := leasePrefix + rand.Text()
	if _, err := c.leases.Create(ctx, &leasesapi.CreateRequest{ID: id}); err != nil {
		return nil, nil, fmt.Errorf("make a lease: %w", err)
	}
	return metadata.AppendToOutgoingContext(ctx, "containerd-lease", id), func() error { return c.endLease(ctx, id) }, nil
}

// cleanTimeout is for collecting what is not kept, which also has to happen after
// the caller is gone.
const cleanTimeout = 20 * time.Second

func (c *containerd) endLease(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if _, err := c.leases.Delete(ctx, &leasesapi.DeleteRequest{ID: id, Sync: true}); err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("end lease %s: %w", id, err)
	}
	return nil
}

// endLeases ends those of loads whose podd was killed, or whose containerd was gone
// when they were to end.
func (c *containerd) endLeases(ctx context.Context) error {
	all, err := c.leases.List(ctx, &leasesapi.ListRequest{})
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	for _, l := range all.Leases {
		if strings.HasPrefix(l.ID, leasePrefix) {
			if err := c.endLease(ctx, l.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// put puts size bytes of r away under their digest. An error that is not r's is an
// outside one.
func (c *containerd) put(ctx context.Context, size int64, r io.Reader) (digest string, err error) {
	// The stream lives on for a moment when the caller goes: see abort.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel() // closes the stream
	defer context.AfterFunc(ctx, func() { time.AfterFunc(cleanTimeout, cancel) })()
	stream, err := c.content.Write(life)
	if err != nil {
		return "", outside{fmt.Errorf("write to the content store: %w", err)}
	}
	w := contentWriter{stream: stream, ref: leasePrefix + rand.Text(), size: size}
	defer func() {
		if err != nil {
			time.AfterFunc(cleanTimeout, cancel)
			w.abort(ctx, c.content)
		}
	}()
	hash, chunk := sha256.New(), make([]byte, min(size, chunkBytes))
	for w.offset < size {
		part := chunk[:min(size-w.offset, chunkBytes)]
		if _, err := io.ReadFull(r, part); err != nil {
			return "", err
		}
		hash.Write(part)
		if err := w.write(part); err != nil {
			return "", outside{fmt.Errorf("write to the content store: %w", err)}
		}
	}
	digest = fmt.Sprintf("sha256:%x", hash.Sum(nil))
	if err := w.commit(digest); err != nil {
		return "", outside{fmt.Errorf("commit %s: %w", digest, err)}
	}
	return digest, nil
}

// putBytes puts a small blob away.
func (c *containerd) putBytes(ctx context.Context, data []byte) error {
	_, err := c.put(ctx, int64(len(data)), bytes.NewReader(data))
	return err
}

// contentWriter writes one blob.
type contentWriter struct {
	stream       contentapi.Content_WriteClient
	ref          string
	size, offset int64
}

func (w *contentWriter) write(part []byte) error {
	_, err := w.exchange(&contentapi.WriteContentRequest{Action: contentapi.WriteAction_WRITE, Ref: w.ref, Total: w.size, Offset: w.offset, Data: part})
	w.offset += int64(len(part))
	return err
}

// commit makes containerd compare the digest with its own. What it has already is
// as good.
func (w *contentWriter) commit(digest string) error {
	_, err := w.exchange(&contentapi.WriteContentRequest{Action: contentapi.WriteAction_COMMIT, Ref: w.ref, Total: w.size, Offset: w.offset, Expected: digest})
	if status.Code(err) == codes.AlreadyExists {
		return nil
	}
	return err
}

func (w *contentWriter) exchange(request *contentapi.WriteContentRequest) (*contentapi.WriteContentResponse, error) {
	if err := w.stream.Send(request); err != nil && err != io.EOF {
		return nil, err
	}
	return w.stream.Recv() // after io.EOF it says why
}

// abort has containerd take away what has been written, once it has closed it: closing
// writes a file, too, and what is being removed meanwhile would be left with it alone.
func (w *contentWriter) abort(ctx context.Context, content contentapi.ContentClient) {
	w.stream.CloseSend()
	for _, err := w.stream.Recv(); err == nil; _, err = w.stream.Recv() {
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	content.Abort(ctx, &contentapi.AbortRequest{Ref: w.ref}) // the lease's end does the same, later
}

// get returns the bytes of a small blob.
func (c *containerd) get(ctx context.Context, b blob) ([]byte, error) {
	stream, err := c.content.Read(ctx, &contentapi.ReadContentRequest{Digest: b.digest})
	var data []byte
	for err == nil {
		var part *contentapi.ReadContentResponse
		if part, err = stream.Recv(); err == nil {
			data = append(data, part.Data...)
		}
	}
	if err != io.EOF {
		return nil, fmt.Errorf("read %s: %w", b.digest, err)
	}
	return data, nil
}

// label gives a blob labels.
func (c *containerd) label(ctx context.Context, digest string, labels map[string]string) error {
	mask := &fieldmaskpb.FieldMask{}
	for name := range labels {
		mask.Paths = append(mask.Paths, "labels."+name)
	}
	_, err := c.content.Update(ctx, &contentapi.UpdateRequest{Info: &contentapi.Info{Digest: digest, Labels: labels}, UpdateMask: mask})
	if err != nil {
		return fmt.Errorf("label %s: %w", digest, err)
	}
	return nil
}

// unpack makes the filesystem of an image's layers.
func (c *containerd) unpack(ctx context.Context, i *image) error {
	parent := ""
	for n, chain := range chainIDs(i.diffIDs) {
		there, err := c.unpacked(ctx, chain)
		if err == nil && !there {
			err = c.unpackLayer(ctx, i.layers[n], i.diffIDs[n], parent, chain)
		}
		if err != nil {
			return err
		}
		parent = chain
	}
	return nil
}

func (c *containerd) unpacked(ctx context.Context, chain string) (bool, error) {
	_, err := c.snapshots.Stat(ctx, &snapshotsapi.StatSnapshotRequest{Snapshotter: snapshotter, Key: chain})
	if err != nil && status.Code(err) != codes.NotFound {
		return false, fmt.Errorf("look for snapshot %s: %w", chain, err)
	}
	return err == nil, nil
}

// unpackLayer makes the snapshot chain: a layer on top of the snapshot parent.
func (c *containerd) unpackLayer(ctx context.Context, layer descriptor, diffID, parent, chain string) (err error) {
	key := "extract-" + leasePrefix + rand.Text() + " " + chain
	made, err := c.snapshots.Prepare(ctx, &snapshotsapi.PrepareSnapshotRequest{
		Snapshotter: snapshotter, Key: key, Parent: parent,
		Labels: map[string]string{"containerd.io/snapshot.ref": chain},
	})
	if err != nil {
		return fmt.Errorf("prepare a snapshot for layer %s: %w", layer.Digest, err)
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
			defer cancel()
			c.snapshots.Remove(ctx, &snapshotsapi.RemoveSnapshotRequest{Snapshotter: snapshotter, Key: key}) // the lease's end does the same, later
		}
	}()
	applied, err := c.diff.Apply(ctx, &diffapi.ApplyRequest{
		Diff:   &types.Descriptor{MediaType: layer.MediaType, Digest: layer.Digest, Size: layer.Size},
		Mounts: made.Mounts,
		// The snapshot counts as whole from Commit on: a power cut must not find its files
		// empty then.
		SyncFs: true,
	})
	switch {
	case err != nil:
		return unpackError(layer, err)
	case applied.Applied.Digest != diffID:
		return bad("layer %s unpacks to %s: the image says %s", layer.Digest, applied.Applied.Digest, diffID)
	}
	_, err = c.snapshots.Commit(ctx, &snapshotsapi.CommitSnapshotRequest{
		Snapshotter: snapshotter, Name: chain, Key: key,
		Labels: map[string]string{"containerd.io/snapshot.ref": chain},
	})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("commit the snapshot of layer %s: %w", layer.Digest, err)
	}
	return c.label(ctx, layer.Digest, map[string]string{"containerd.io/uncompressed": diffID})
}

// unpackError tells the archive's fault from others. containerd has a code neither for a
// layer that is no tar nor for a full disk: the text of ENOSPC is all that it sends.
func unpackError(layer descriptor, err error) error {
	s, _ := status.FromError(err)
	switch {
	case strings.Contains(s.Message(), "no space left on device"):
		return status.Errorf(codes.ResourceExhausted, "unpack layer %s: the disk is full", layer.Digest)
	case s.Code() == codes.Unknown || s.Code() == codes.InvalidArgument:
		return bad("layer %s cannot be unpacked: %s", layer.Digest, s.Message())
	}
	return fmt.Errorf("unpack layer %s: %w", layer.Digest, err)
}

// pointing is what a name stands for.
type pointing struct {
	name   string
	before *imagesapi.Image // nil: nothing
}

func (c *containerd) pointing(ctx context.Context, name string) (pointing, error) {
	found, err := c.images.Get(ctx, &imagesapi.GetImageRequest{Name: name})
	if err != nil && status.Code(err) != codes.NotFound {
		return pointing{}, fmt.Errorf("look for image %s: %w", name, err)
	}
	return pointing{name, found.GetImage()}, nil
}

// errTaken says that a name stands for another image.
var errTaken = errors.New("it stands for another image")

// name makes a name stand for target. The kubelet's part of containerd learns of it
// by an event. Unless replace is set, a name that stands for another target is left
// alone and the error is errTaken.
func (c *containerd) name(ctx context.Context, name string, target descriptor, labels map[string]string, replace bool) error {
	is := &imagesapi.Image{
		Name: name, Labels: labels,
		Target: &types.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size},
	}
	_, err := c.images.Create(ctx, &imagesapi.CreateImageRequest{Image: is})
	if status.Code(err) == codes.AlreadyExists {
		err = c.rename(ctx, is, replace)
	}
	if err != nil {
		return fmt.Errorf("name %s %s: %w", target.Digest, name, err)
	}
	return nil
}

// rename makes an existing name stand for what is says.
func (c *containerd) rename(ctx context.Context, is *imagesapi.Image, replace bool) error {
	if !replace {
		found, err := c.images.Get(ctx, &imagesapi.GetImageRequest{Name: is.Name})
		if err != nil {
			return err
		}
		if found.Image.Target.Digest != is.Target.Digest {
			return errTaken
		}
	}
	_, err := c.images.Update(ctx, &imagesapi.UpdateImageRequest{Image: is, UpdateMask: maskOf(is.Labels)})
	return err
}

// maskOf names what an image's update changes: its target and labels.
func maskOf(labels map[string]string) *fieldmaskpb.FieldMask {
	mask := &fieldmaskpb.FieldMask{Paths: []string{"target"}}
	for l := range labels {
		mask.Paths = append(mask.Paths, "labels."+l)
	}
	return mask
}

// restore makes a name stand again for what it did.
func (c *containerd) restore(ctx context.Context, p pointing) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	var err error
	if p.before == nil {
		_, err = c.images.Delete(ctx, &imagesapi.DeleteImageRequest{Name: p.name})
	} else {
		_, err = c.images.Update(ctx, &imagesapi.UpdateImageRequest{Image: p.before, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"target", "labels"}}})
	}
	if err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("take the name %s back: %w", p.name, err)
	}
	return nil
}

// picture returns the image that the kubelet finds under a name or id, or nil.
func (c *containerd) picture(ctx context.Context, name string) (*cri.Image, error) {
	found, err := c.cri.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
	if err != nil {
		return nil, fmt.Errorf("look for image %s: %w", name, err)
	}
	return found.Image, nil
}

// keptNames are the names that the kubelet must not collect: true for those that a
// person has given, false for the system's.
func (c *containerd) keptNames(ctx context.Context) (map[string]bool, error) {
	pinned := fmt.Sprintf("labels.%q==%s", pinnedLabel, pinnedValue)
	found, err := c.images.List(ctx, &imagesapi.ListImagesRequest{Filters: []string{pinned}})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	names := map[string]bool{}
	for _, i := range found.Images {
		names[i.Name] = i.Labels[loadedLabel] == loadedValue
	}
	return names, nil
}

// origin tells whether one of an image's names is the system's, and whether one is a
// person's.
func origin(i *cri.Image, kept map[string]bool) (system, loaded bool) {
	for _, name := range slices.Concat(i.GetRepoTags(), i.GetRepoDigests()) {
		if byPerson, ok := kept[name]; ok {
			system, loaded = system || !byPerson, loaded || byPerson
		}
	}
	return system, loaded
}

const (
	// seenTimeout is how long the kubelet's part may take to see a new name.
	seenTimeout = 10 * time.Second
	seenEvery   = 20 * time.Millisecond
)

// seen waits until the kubelet finds the image id under a name, and finds it pinned if
// it is to be.
func (c *containerd) seen(ctx context.Context, name, id string, pinned bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, seenTimeout, errors.New("it is not shown to the kubelet"))
	defer cancel()
	for {
		p, err := c.picture(ctx, name)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if p.GetId() == id && (p.GetPinned() || !pinned) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("image %s: %w", name, context.Cause(ctx))
		case <-time.After(seenEvery):
		}
	}
}

// both lists what runs and what has ended.
func (c *containerd) both(ctx context.Context) ([]*cri.PodSandbox, []*cri.Container, error) {
	s, err := c.cri.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return nil, nil, fmt.Errorf("list pods: %w", err)
	}
	k, err := c.cri.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return nil, nil, fmt.Errorf("list containers: %w", err)
	}
	return s.Items, k.Containers, nil
}
