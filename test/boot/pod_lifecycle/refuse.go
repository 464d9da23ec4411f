package pod_lifecycle

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/test/vm"
)

// probes: a pod that says it is not ready gets no requests, one that says it is ill is
// restarted; its volumes stay.
func (s *story) probes() {
	s.forwarded(func(address string) {
		s.post("http://"+address+"/readyz", "no")
		s.eventuallyReady("False")
		vm.Eventually(s.t, s.refused)
		s.post("http://"+address+"/readyz", "yes")
		s.eventuallyReady("True")
	})
	vm.Eventually(s.t, func() string { // kube-proxy, too, has to learn of it
		if out, err := s.http(http.MethodPost, s.nodePort()+"/healthz", "no"); err != nil || out != "200 false\n" {
			return fmt.Sprintf("a pod that is ready again gets no requests: %q, %v", out, err)
		}
		return ""
	})
	vm.Eventually(s.t, func() string {
		if n := s.ofWeb("{.status.containerStatuses[0].restartCount}"); n != "1" {
			return "restarts of a pod that is ill: " + n
		}
		return ""
	})
	s.eventuallyReady("True")
	if log := s.c.Run("logs", web, "--previous"); !strings.Contains(log, "asked to end") {
		s.t.Errorf("the log of what ran before the restart: %q", log)
	}
	s.in(web, does{"cat /disk/typed", "over the wire"}, does{"cat /memory/kept", "kept"})
}

// refused wants the Service to be closed. Another pod asks, who is told so at once:
// QEMU's network keeps it from somebody outside.
func (s *story) refused() string {
	out, err := s.c.Try("connect tcp web:80\n", "exec", "-i", asker, "--", "workload", "each")
	if err != nil || !strings.Contains(out, "connection refused") {
		return fmt.Sprintf("a pod that is not ready gets requests: %s, %v", out, err)
	}
	return ""
}

// ofWeb returns a field of web's pod.
func (s *story) ofWeb(path string) string {
	out, err := s.c.Try("", "get", "pods", "-l", "app=web", "-o", "jsonpath={range .items[*]}"+path+"{end}")
	if err != nil {
		return err.Error()
	}
	return out
}

func (s *story) eventuallyReady(want string) {
	s.t.Helper()
	vm.Eventually(s.t, func() string {
		if is := s.ofWeb(`{.status.conditions[?(@.type=="Ready")].status}`); is != want {
			return "web is ready: " + is
		}
		return ""
	})
}

func (s *story) post(url, text string) {
	s.t.Helper()
	if out, err := s.http(http.MethodPost, url, text); err != nil || !strings.HasPrefix(out, "200 ") {
		s.t.Fatalf("POST %s: %q, %v", url, out, err)
	}
}

// requestTimeout is for one request, on a machine without KVM that does much else.
const requestTimeout = 20 * time.Second

// http returns the status and the body of an answer.
func (s *story) http(method, url, text string) (string, error) {
	return request(&http.Client{Timeout: requestTimeout}, method, url, text)
}

func request(client *http.Client, method, url, text string) (string, error) {
	r, err := http.NewRequest(method, url, strings.NewReader(text))
	if err != nil {
		return "", err
	}
	r.Close = true
	answer, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return fmt.Sprintf("%d %s", answer.StatusCode, body), err
}

// refusals: what is not allowed, to whom.
func (s *story) refusals() {
	privileged := []string{"run", "mighty", "--image=" + vm.TestImageName, "--privileged", "--dry-run=server"}
	if out, err := s.c.Try("", privileged...); err == nil || !strings.Contains(err.Error(), `violates PodSecurity "baseline:`) {
		s.t.Errorf("a privileged pod: %v %s", err, out)
	}
	s.c.Run(append(privileged, "--namespace=kube-system")...)

	info, err := s.r.Kube().GetKubeconfigInfo(vm.Context(s.t), &kube.GetKubeconfigInfoRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(info.Authority)
	nobody := &http.Client{Timeout: requestTimeout, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	for path, want := range map[string]string{
		"/livez": "200 ok", "/readyz": "200 ok", "/healthz": "200 ok",
		"/version": "401 ", "/api/v1/nodes": "401 ", "/metrics": "401 ", "/livez/etcd": "401 ",
	} {
		var out string
		vm.Eventually(s.t, func() string {
			var err error
			// kube-apiserver is ill (500) when etcd takes two seconds for an answer, as it may
			// on a machine without KVM that has just started a pod.
			if out, err = request(nobody, http.MethodGet, s.r.KubeURL()+path, ""); err != nil || strings.HasPrefix(out, "500 ") {
				return fmt.Sprintf("%s for nobody: %q, %v, want %s", path, out, err, want)
			}
			return ""
		})
		if !strings.HasPrefix(out, want) {
			s.t.Errorf("%s for nobody: %q, want %s", path, out, want)
		}
	}
}

// hostPath is a path of the pods' domain, which has the logs of all pods and a /tmp.
func (s *story) hostPath(keeper *vm.Cluster) {
	if out := keeper.Run("exec", "keeper", "--", "workload", "ls", "/logs"); !strings.Contains(out, "/logs/pod-lifecycle_web-") {
		s.t.Errorf("a hostPath /var/log/pods: %s", out)
	}
	if out, err := keeper.Try("shared\n", "exec", "-i", "keeper", "--", "workload", "write", "/made/file"); err != nil {
		s.t.Errorf("write to a hostPath: %v %s", err, out)
	}
	if out := keeper.Run("exec", "keeper", "--", "workload", "cat", "/above/pod_lifecycle/file"); out != "shared\n" {
		s.t.Errorf("what was written to one hostPath is in another: %q", out)
	}
	keeper.Run("exec", "keeper", "--", "workload", "rm", "/above/pod_lifecycle/file")
}
