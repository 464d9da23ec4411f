package vm

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// NodePort is where Serving answers; it has to be in Config.Forward.
const NodePort = 30080

// ServingNamespace is where Serving is.
const ServingNamespace = "serving"

// Serving is a workload that answers on NodePort: a pod, and another that it asks over a
// Service.
type Serving struct {
	c *Cluster
	r *Running
}

const servingPods = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - name: workload
        image: ` + TestImageName + `
        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
---
`

const servingServices = `
apiVersion: v1
kind: Service
metadata: {name: back}
spec: {selector: {app: back}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {type: NodePort, selector: {app: front}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
`

// Serving returns the machine's workload when it answers. The first scenario that asks
// makes it; it stays, over power cuts too, and is found again after each.
func (r *Running) Serving() *Serving {
	r.t.Helper()
	c := r.Cluster()
	c.Namespace = ServingNamespace
	if _, err := c.Try("", "get", "service", "front"); err != nil { // what is made last
		r.NeedTestImage()
		c.Apply("{apiVersion: v1, kind: Namespace, metadata: {name: " + ServingNamespace + "}}")
		c.awaitAccount()
		c.Apply(fmt.Sprintf(servingPods, "front") + fmt.Sprintf(servingPods, "back"))
		Eventually(r.t, func() string { // the scenario before this one may not have given the port back yet
			if _, err := c.Try(servingServices, "apply", "-f", "-"); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	s := &Serving{c, r}
	s.Wait()
	return s
}

// Wait waits until the workload answers. The first requests after a power cut may go to
// where a pod was before, and would not be answered however long they waited: each look
// is more patient than the one before.
func (s *Serving) Wait() {
	s.r.t.Helper()
	paths, attempt := s.paths(), time.Second
	Eventually(s.r.t, func() string {
		attempt *= 2
		ctx, cancel := context.WithTimeout(s.r.t.Context(), attempt)
		defer cancel()
		for _, path := range paths {
			if err := s.get(ctx, path); err != nil {
				return err.Error()
			}
		}
		return ""
	})
}

// paths are a request to the front pod, and one that it passes on to the other.
func (s *Serving) paths() []string {
	back := "http://" + s.c.Run("get", "service", "back", "-o", "jsonpath={.spec.clusterIP}") + "/"
	return []string{"/", "/get?url=" + url.QueryEscape(back)}
}

// Pods tells which containers serve, and how often they have been restarted.
func (s *Serving) Pods() string {
	return s.c.Run("get", "pods", "-l", "app in (front, back)", "--sort-by=.metadata.name", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} restarts={.status.containerStatuses[0].restartCount}{"\n"}{end}`)
}

// servingTimeout is for one request: more than what a machine without KVM takes
// that starts kube-apiserver meanwhile.
const servingTimeout = time.Minute

// failuresShown are told one by one; when they are many, the first say what happened.
const failuresShown = 5

// get makes one request, over a connection of its own.
func (s *Serving) get(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, servingTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.r.Forwarded(NodePort)+path, nil)
	if err != nil {
		return err
	}
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || !strings.HasPrefix(string(text), "pod ")) {
		err = fmt.Errorf("GET %s: %s: %s", path, answer.Status, text)
	}
	return err
}

// Undisturbed makes requests while f runs: none may fail, and the same containers
// serve at its end.
func (s *Serving) Undisturbed(t *testing.T, f func()) {
	t.Helper()
	before := s.Pods()
	ctx, stop := context.WithCancel(t.Context())
	var served, failed atomic.Int64
	var wg sync.WaitGroup
	for _, path := range s.paths() {
		wg.Go(func() {
			for slowPause(ctx) {
				begin := time.Now()
				if err := s.get(context.WithoutCancel(ctx), path); err != nil && failed.Add(1) <= failuresShown {
					t.Errorf("a request failed at %s after %v: %v", begin.UTC().Format("15:04:05.000"), time.Since(begin).Round(time.Millisecond), err)
				}
				served.Add(1)
			}
		})
	}
	defer func() { // f may end the test
		stop()
		wg.Wait()
		t.Logf("%d requests meanwhile, of which %d failed", served.Load(), failed.Load())
	}()
	f()
	if after := s.Pods(); after != before {
		t.Errorf("other containers serve than before:\n%swas:\n%s", after, before)
	}
}
