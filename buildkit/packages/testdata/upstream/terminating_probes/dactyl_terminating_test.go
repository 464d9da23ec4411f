package prober

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
	"k8s.io/kubernetes/pkg/kubelet/status"
	"k8s.io/utils/exec"
)

// A pod is deleted: the kubelet cancels the context of its first sync. Its exec readiness
// probe, which fails from then on, makes it unready. TestFault… fails on the source that
// is not edited.
func TestFaultReadinessOfTerminatingPod(t *testing.T) {
	started := true
	container := v1.Container{Name: "c", ReadinessProbe: &v1.Probe{
		ProbeHandler:     v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"ready"}}},
		PeriodSeconds:    1,
		TimeoutSeconds:   1,
		SuccessThreshold: 1,
		FailureThreshold: 1,
	}}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "uid"}, Spec: v1.PodSpec{Containers: []v1.Container{container}}}
	statuses := podStatus{status: v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{{
		Name: "c", ContainerID: "test://c", Started: &started,
		State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.Now()}},
	}}}}
	readiness := results.NewManager()
	var terminating atomic.Bool
	m := NewManager(statuses, results.NewManager(), readiness, results.NewManager(), program{&terminating}, record.NewFakeRecorder(100))
	defer m.RemovePod(pod)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m.AddPod(ctx, pod)
	if !becomes(readiness, results.Success, time.Minute) {
		t.Fatal("the pod did not become ready")
	}
	terminating.Store(true)
	cancel()
	// Its probe runs every second. On the source that is not edited this waits in full.
	if !becomes(readiness, results.Failure, 10*time.Second) {
		t.Error("the pod stays ready while it terminates")
	}
}

func becomes(m results.Manager, want results.Result, within time.Duration) bool {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got, ok := m.Get(kubecontainer.ParseContainerID("test://c")); ok && got == want {
			return true
		}
	}
	return false
}

// program is the probe's: it succeeds until the pod terminates. Like containerd, it ends
// with its caller's context.
type program struct{ terminating *atomic.Bool }

func (p program) RunInContainer(ctx context.Context, _ kubecontainer.ContainerID, _ []string, _ time.Duration) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p.terminating.Load() {
		return nil, exec.CodeExitError{Err: errors.New("not ready"), Code: 1}
	}
	return nil, nil
}

// podStatus is the status of the one pod.
type podStatus struct {
	status.Manager // nothing else is asked
	status         v1.PodStatus
}

func (p podStatus) GetPodStatus(types.UID) (v1.PodStatus, bool) { return p.status, true }
