package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/dactyl-os/dactyl/daemons/podd/internal/cri"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	machineapi "github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// pid1 says whether the machine ends.
type pid1 struct {
	machineapi.Server
	ending bool
}

func (p *pid1) GetVersion(context.Context, *machineapi.GetVersionRequest) (*machineapi.Version, error) {
	return &machineapi.Version{Ending: p.ending}, nil
}

// startPod starts a pod of one container as the kubelet would, on the network of
// whoever runs the test.
func (p *peer) startPod(namespace, name, image, grace string, args ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 60*time.Second)
	defer cancel()
	kubelet := criapi.NewRuntimeServiceClient(p.c.conn)
	config := &criapi.PodSandboxConfig{
		Metadata:     &criapi.PodSandboxMetadata{Namespace: namespace, Name: name, Uid: name},
		LogDirectory: p.dir,
		Linux: &criapi.LinuxPodSandboxConfig{CgroupParent: "/" + filepath.Base(p.dir), SecurityContext: &criapi.LinuxSandboxSecurityContext{
			NamespaceOptions: &criapi.NamespaceOption{Network: criapi.NamespaceMode_NODE},
		}},
	}
	sandbox, err := kubelet.RunPodSandbox(ctx, &criapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		p.t.Fatal(err)
	}
	found, err := p.c.picture(ctx, image)
	if err != nil || found == nil {
		p.t.Fatalf("no image %s: %v", image, err)
	}
	made, err := kubelet.CreateContainer(ctx, &criapi.CreateContainerRequest{
		PodSandboxId: sandbox.PodSandboxId, SandboxConfig: config,
		Config: &criapi.ContainerConfig{
			Metadata: &criapi.ContainerMetadata{Name: "main"}, Image: &criapi.ImageSpec{Image: found.Id, UserSpecifiedImage: image}, Args: args,
			LogPath: name + ".log", Annotations: map[string]string{graceAnnotation: grace}, Linux: &criapi.LinuxContainerConfig{},
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := kubelet.StartContainer(ctx, &criapi.StartContainerRequest{ContainerId: made.ContainerId}); err != nil {
		p.t.Fatal(err)
	}
	p.until(name+" is ready", func() error {
		text, err := os.ReadFile(filepath.Join(p.dir, name+".log"))
		if err == nil && !bytes.Contains(text, []byte("ready")) {
			err = fmt.Errorf("its log is %q", text)
		}
		return err
	})
}

// Pods of a real containerd: from loaded images, without a registry, and ended in
// their order when the machine ends, but not when podd does.
func TestPodsEndWithTheMachine(t *testing.T) {
	p := startContainerd(t)
	client := podd(t, p.c, roomy())
	pause, err := os.ReadFile(built(t, "pause", "pause.tar"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pause.tar"), pause, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := importSystem1(t.Context(), p.c, dir, discard); err != nil {
		t.Fatal(err)
	}
	if r, err := client.GetRuntime(t.Context(), &pods.GetRuntimeRequest{}); err != nil || !r.Serving || r.Name != "containerd" || r.Version == "" {
		t.Fatalf("%v, %v", r, err)
	}
	zstd, gzip := sleepers(t, typeLayerZstd), sleepers(t, typeLayerGzip)
	for _, archive := range [][]byte{zstd.oci(annotationName, "sleeper:zstd"), gzip.docker("sleeper:gzip")} {
		if _, err := upload1(t, client, "", archive); err != nil {
			t.Fatal(err)
		}
	}
	p.startPod("kube-system", "cni", "sleeper:gzip", "30")
	p.startPod("default", "polite", "sleeper:zstd", "30")
	p.startPod("default", "deaf", "sleeper:gzip", "2", "deaf")

	listed, err := client.ListPods(t.Context(), &pods.ListPodsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range listed.Pods {
		lines = append(lines, fmt.Sprintf("%s/%s %s %s %s", l.Namespace, l.Name, words.Of(l.State), l.Containers[0].Image, words.Of(l.Containers[0].State)))
	}
	want := "default/deaf ready sleeper:gzip running, default/polite ready sleeper:zstd running, kube-system/cni ready sleeper:gzip running"
	if got := strings.Join(lines, ", "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := client.RemoveImage(t.Context(), &pods.RemoveImageRequest{Name: "sleeper:zstd"}); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "default/polite") {
		t.Errorf("an image in use: %v", err)
	}

	pid1 := &pid1{}
	up := machineapi.NewClient(ipctest.Pair(t, map[string][]string{machineapi.Service: {"GetVersion"}}, func(r ipc.Registrar) { machineapi.Register(r, pid1) }))
	var log bytes.Buffer
	e := ender{p.c, up, slog.New(slog.NewTextHandler(&log, nil))}
	e.stop(t.Context())
	if got := p.running(); len(got) != 3 {
		t.Fatalf("podd was restarted, and of three pods these run: %v", got)
	}
	pid1.ending = true
	began := time.Now()
	e.stop(t.Context())
	took := time.Since(began)
	if got := p.running(); len(got) != 0 {
		t.Errorf("still running: %v", got)
	}
	if took < 2*time.Second || took > 15*time.Second {
		t.Errorf("it took %v: want the deaf one's 2 s of grace and a little", took)
	}
	t.Log(log.String())
	if end := p.ends(); !end["kube-system/cni"].After(end["default/deaf"]) || !end["default/deaf"].After(end["default/polite"]) {
		t.Errorf("they ended in another order: %v", end)
	}
}

// running lists containers that run.
func (p *peer) running() []string {
	p.t.Helper()
	_, containers, err := p.c.both(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	var names []string
	for _, c := range containers {
		if c.State == cri.ContainerState_CONTAINER_RUNNING {
			names = append(names, c.Metadata.Name)
		}
	}
	return names
}

// ends tells when each pod's container ended.
func (p *peer) ends() map[string]time.Time {
	p.t.Helper()
	sandboxes, containers, err := p.c.both(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	at := map[string]time.Time{}
	for _, c := range containers {
		st, err := criapi.NewRuntimeServiceClient(p.c.conn).ContainerStatus(p.t.Context(), &criapi.ContainerStatusRequest{ContainerId: c.Id})
		if err != nil {
			p.t.Fatal(err)
		}
		for _, s := range sandboxes {
			if s.Id == c.PodSandboxId {
				at[s.Metadata.Namespace+"/"+s.Metadata.Name] = time.Unix(0, st.Status.FinishedAt)
			}
		}
	}
	return at
}

// Without containerd, everything says so.
func TestWithoutContainerd(t *testing.T) {
	c, err := newContainerd(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	client := podd(t, c, roomy())
	if r, err := client.GetRuntime(t.Context(), &pods.GetRuntimeRequest{}); err != nil || r.Serving || !strings.Contains(r.Message, "does not answer") {
		t.Errorf("%v, %v", r, err)
	}
	_, listPods := client.ListPods(t.Context(), &pods.ListPodsRequest{})
	_, listImages := client.ListImages(t.Context(), &pods.ListImagesRequest{})
	_, remove := client.RemoveImage(t.Context(), &pods.RemoveImageRequest{Name: "x"})
	_, load := upload1(t, client, "", small("x").docker("x"))
	for name, err := range map[string]error{"ListPods": listPods, "ListImages": listImages, "RemoveImage": remove, "LoadImage": load} {
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := importSystem(ctx, c, t.TempDir(), discard); err != nil {
		t.Error(err)
	}
	ender{c: c, log: discard}.end(t.Context())
}
