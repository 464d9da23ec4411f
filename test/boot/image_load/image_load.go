// Scenario image_load: a person with the dactyl command sends images to a machine that
// has no registry, in both forms that tools write, starts pods of them, and removes
// them. What is damaged is refused in a sentence, and nothing of it stays. If it fails,
// an offline machine runs nothing but what it was built with, or its disk fills up with
// what nobody can see.
package image_load

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/test/vm"
)

// Names of the two images.
const (
	docker = "dactyl.test/image-load/docker:1"
	oci    = "dactyl.test/image-load/oci:1"
)

// What the command's exit codes are; its doc.go says them.
const (
	done     = 0
	notFound = 4
	refused  = 5
)

// person types commands.
type person struct {
	t       *testing.T
	command *vm.Dactyl
}

// looker is a pod that sees containerd's content, which no list shows.
const looker = `
apiVersion: v1
kind: Pod
metadata: {name: looker}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: workload
    image: ` + vm.TestImageName + `
    securityContext: {runAsUser: 0}
    volumeMounts: [{name: content, mountPath: /content, readOnly: true}]
  volumes: [{name: content, hostPath: {path: /var/lib/containerd/io.containerd.content.v1.content, type: Directory}}]
`

// Scenario needs a machine whose node becomes Ready.
func Scenario(t *testing.T, r *vm.Running) {
	r.WaitReady()
	r.NeedTestImage()
	c := r.Cluster().InPrivileged("image-load")
	c.Apply(looker)
	c.Run("wait", "--for=condition=Ready", "pod/looker", "--timeout=4m")
	content := func() string { return c.Run("exec", "looker", "--", "workload", "ls", "/content") }

	p := person{t, r.Dactyl()}
	before, contentBefore := p.images(), content()
	unchanged := func(when string) {
		t.Helper()
		if now := p.images(); !slices.Equal(now, before) {
			t.Errorf("%s there is %q, before there was %q", when, now, before)
		}
		if now := content(); now != contentBefore {
			t.Errorf("%s containerd keeps\n%sbefore it kept\n%s", when, now, contentBefore)
		}
	}
	fromDocker, fromOCI := vm.DockerImageNamed(t, docker), vm.TestImageNamed(t, oci)

	p.refusals(fromDocker, fromOCI)
	unchanged("after archives that were refused")

	p.want(done, docker, nil, "image", "load", fromDocker)
	archive, err := os.Open(fromOCI)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	p.want(done, oci, archive, "image", "load", "-")
	p.want(done, oci, nil, "image", "load", fromOCI) // once more is no error
	p.want(done, docker, nil, "image", "list")

	for name, image := range map[string]string{"docker": docker, "oci": oci} {
		c.Run("run", name, "--image="+image, "--image-pull-policy=Never")
	}
	c.Run("wait", "--for=condition=Ready", "pod/docker", "pod/oci", "--timeout=4m")
	p.want(refused, "is in use by image-load/docker", nil, "image", "remove", docker)
	p.want(refused, "is in use by image-load/oci", nil, "image", "remove", oci)
	c.Run("delete", "pod", "docker", "oci")
	for _, name := range []string{docker, oci} {
		vm.Eventually(t, func() string { // the kubelet removes containers after their pod
			if out, code := p.command.Try(nil, "image", "remove", name); code != done {
				return out
			}
			return ""
		})
	}
	unchanged("after all were removed")
	p.want(notFound, oci, nil, "image", "remove", oci)
	readersOnlyLook(t, r)
}

// refusals: archives of which nothing may stay.
func (p person) refusals(fromDocker, fromOCI string) {
	whole := p.read(fromOCI)
	damaged := slices.Clone(whole)
	damaged[len(damaged)/2] ^= 1 // in the layer: it no longer has its digest
	for _, bad := range []struct {
		what string
		text []byte
		says string
	}{
		{"cut off in the layer", whole[:1<<20], "cut off"},
		{"cut off docker's", p.read(fromDocker)[:1<<20], "cut off"},
		{"damaged", damaged, "it is damaged"},
		{"not an archive", bytes.Repeat([]byte("no archive "), 1<<16), "tar"},
		{"empty", nil, "archive"},
	} {
		path := filepath.Join(p.t.TempDir(), "bad.tar")
		if err := os.WriteFile(path, bad.text, 0o644); err != nil {
			p.t.Fatal(err)
		}
		if out, code := p.command.Try(nil, "image", "load", path); code != refused || !strings.Contains(out, bad.says) {
			p.t.Errorf("an archive that is %s: exit code %d, want %d and %q: %s", bad.what, code, refused, bad.says, out)
		}
	}
	p.want(refused, "belongs to the system", nil, "image", "remove", p.pause())
}

func (p person) read(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// list is what the command says of images as JSON.
func (p person) list() *pods.ListImagesResponse {
	p.t.Helper()
	out := p.want(done, "", nil, "image", "list", "-o", "json")
	var all struct {
		Images []struct {
			ID     string
			Names  []string
			System bool
		}
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	r := &pods.ListImagesResponse{}
	for _, i := range all.Images {
		r.Images = append(r.Images, &pods.Image{Id: i.ID, Names: i.Names, System: i.System})
	}
	return r
}

// images names all that there are, by id and names.
func (p person) images() []string {
	p.t.Helper()
	var names []string
	for _, i := range p.list().Images {
		names = append(names, i.Id+" "+strings.Join(i.Names, " "))
	}
	return names
}

// pause is the image that is part of the system.
func (p person) pause() string {
	p.t.Helper()
	for _, i := range p.list().Images {
		if i.System {
			return i.Names[0]
		}
	}
	p.t.Fatal("no image belongs to the system")
	return ""
}

// readersOnlyLook: the role that may list must not load.
func readersOnlyLook(t *testing.T, r *vm.Running) {
	reader := pods.NewClient(r.As(auth.Role_ROLE_READER))
	if _, err := reader.ListImages(vm.Context(t), &pods.ListImagesRequest{}); err != nil {
		t.Errorf("a reader lists images: %v", err)
	}
	if _, err := reader.RemoveImage(vm.Context(t), &pods.RemoveImageRequest{Name: docker}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a reader removes an image: %v", err)
	}
	if _, err := vm.LoadImage(vm.Context(t), reader, vm.TestImageNamed(t, oci)); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a reader loads an image: %v", err)
	}
}

// want types a command that has to end with code and say text.
func (p person) want(code int, text string, stdin io.Reader, args ...string) string {
	p.t.Helper()
	out, is := p.command.Try(stdin, args...)
	if is != code || !strings.Contains(out, text) {
		p.t.Fatalf("dactyl %s: exit code %d, want %d and %q: %s", strings.Join(args, " "), is, code, text, out)
	}
	return out
}
