package main

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/dactyl-os/dactyl/daemons/podd/internal/cri"
	"github.com/dactyl-os/dactyl/ipc/pods"
)

// describe lists pods by namespace and name. What the runtime keeps of earlier
// attempts at the same pod or container is left out.
func describe(sandboxes []*cri.PodSandbox, containers []*cri.Container) []*pods.Pod {
	type key struct{ namespace, name, uid string }
	latest := map[key]*cri.PodSandbox{}
	at := map[string]key{} // by sandbox
	for _, s := range sandboxes {
		m := s.GetMetadata()
		k := key{m.GetNamespace(), m.GetName(), m.GetUid()}
		at[s.Id] = k
		if old := latest[k]; old == nil || old.GetMetadata().GetAttempt() < m.GetAttempt() {
			latest[k] = s
		}
	}
	of := map[key]map[string]*cri.Container{}
	for _, c := range containers {
		k, ok := at[c.PodSandboxId]
		if !ok {
			continue // its sandbox has just gone
		}
		if of[k] == nil {
			of[k] = map[string]*cri.Container{}
		}
		name := c.GetMetadata().GetName()
		if old := of[k][name]; old == nil || old.GetMetadata().GetAttempt() < c.GetMetadata().GetAttempt() {
			of[k][name] = c
		}
	}
	var all []*pods.Pod
	for k, s := range latest {
		p := &pods.Pod{Namespace: k.namespace, Name: k.name, Uid: k.uid, State: pods.PodState_POD_STATE_NOT_READY, CreatedUnixNs: s.CreatedAt}
		if s.State == cri.PodSandboxState_SANDBOX_READY {
			p.State = pods.PodState_POD_STATE_READY
		}
		for name, c := range of[k] {
			p.Containers = append(p.Containers, &pods.Container{
				Name: name, Image: imageOf(c), State: containerStates[c.State], Restarts: c.GetMetadata().GetAttempt(), CreatedUnixNs: c.CreatedAt,
			})
			p.Restarts += c.GetMetadata().GetAttempt()
		}
		slices.SortFunc(p.Containers, func(a, b *pods.Container) int { return cmp.Compare(a.Name, b.Name) })
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *pods.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.CreatedUnixNs, b.CreatedUnixNs))
	})
	return all
}

var containerStates = map[cri.ContainerState]pods.ContainerState{
	cri.ContainerState_CONTAINER_CREATED: pods.ContainerState_CONTAINER_STATE_CREATED,
	cri.ContainerState_CONTAINER_RUNNING: pods.ContainerState_CONTAINER_STATE_RUNNING,
	cri.ContainerState_CONTAINER_EXITED:  pods.ContainerState_CONTAINER_STATE_EXITED,
	cri.ContainerState_CONTAINER_UNKNOWN: pods.ContainerState_CONTAINER_STATE_UNKNOWN,
}

// imageOf returns what a container's pod calls its image; the kubelet asks for it
// by its id.
func imageOf(c *cri.Container) string {
	return cmp.Or(c.GetImage().GetUserSpecifiedImage(), c.GetImage().GetImage())
}

// user returns the pod of the first container that was made from image, as
// NAMESPACE/NAME, or "".
func user(image *cri.Image, sandboxes []*cri.PodSandbox, containers []*cri.Container) string {
	names := slices.Concat([]string{image.Id}, image.RepoTags, image.RepoDigests)
	for _, c := range containers {
		if !slices.ContainsFunc([]string{c.ImageId, c.ImageRef, c.GetImage().GetImage()}, func(r string) bool { return slices.Contains(names, r) }) {
			continue
		}
		for _, s := range sandboxes {
			if s.Id == c.PodSandboxId {
				return s.GetMetadata().GetNamespace() + "/" + s.GetMetadata().GetName()
			}
		}
		return "a container without a pod"
	}
	return ""
}

// How the machine's pods are ended, within endTimeout.
const (
	// endTimeout is for all of them; it leaves PID 1's limit (daemon.toml) enough
	// time to see podd end.
	endTimeout = 30 * time.Second
	// longestGrace is what an ordinary container gets at most, whatever its pod says:
	// a machine that shuts down does not wait half a minute for one.
	longestGrace = 20 * time.Second
	// defaultGrace is Kubernetes' own, for what the kubelet did not start.
	defaultGrace = 30 * time.Second
	// killTime is kept free of grace: for the runtime to kill what did not end and to
	// take the pods' networks down.
	killTime = 5 * time.Second
)

// Annotations and namespaces by which the kubelet's pods are told apart.
const (
	graceAnnotation = "io.kubernetes.pod.terminationGracePeriod"
	systemNamespace = "kube-system"
)

// A wave is pods that are ended at the same time. Within one, containers end before
// the sandboxes, which hold their network.
type wave struct {
	containers []victim
	sandboxes  []victim
}

// victim is a container or a sandbox that is to end.
type victim struct {
	id    string
	name  string        // for the log
	grace time.Duration // between being asked and being killed; of a container
}

// waves says in which order the pods end: what the system's own pods do for others
// (networks, volumes) they do until all others are gone. The runtime is not told a
// pod's priority, so the system's are those of the namespace kube-system.
func waves(sandboxes []*cri.PodSandbox, containers []*cri.Container) []wave {
	var ordinary, system wave
	of := map[string]*wave{}
	name := map[string]string{}
	for _, s := range sandboxes {
		if s.State != cri.PodSandboxState_SANDBOX_READY {
			continue
		}
		w := &ordinary
		if s.GetMetadata().GetNamespace() == systemNamespace {
			w = &system
		}
		of[s.Id], name[s.Id] = w, s.GetMetadata().GetNamespace()+"/"+s.GetMetadata().GetName()
		w.sandboxes = append(w.sandboxes, victim{id: s.Id, name: name[s.Id]})
	}
	for _, c := range containers {
		if w := of[c.PodSandboxId]; w != nil && c.State == cri.ContainerState_CONTAINER_RUNNING {
			w.containers = append(w.containers, victim{c.Id, name[c.PodSandboxId] + "/" + c.GetMetadata().GetName(), graceOf(c)})
		}
	}
	var all []wave
	for _, w := range []wave{ordinary, system} {
		if len(w.sandboxes) > 0 {
			all = append(all, w)
		}
	}
	return all
}

// graceOf returns what the container's pod asks for, or the default.
func graceOf(c *cri.Container) time.Duration {
	seconds, err := strconv.ParseInt(c.Annotations[graceAnnotation], 10, 32)
	if err != nil || seconds < 0 {
		return defaultGrace
	}
	return time.Duration(seconds) * time.Second
}

// allowed cuts a grace so that all is over in time: left is how long the end may
// still take.
func allowed(grace, left time.Duration) time.Duration {
	return max(0, min(grace, longestGrace, left-killTime)).Truncate(time.Second)
}

// room returns how many bytes images may still fill: pods.ReservePercent of the volume
// stays free.
func room(size, used uint64) uint64 {
	reserve := size / 100 * pods.ReservePercent
	if used+reserve >= size {
		return 0
	}
	return size - used - reserve
}
