package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/test/vm"
)

// apiServer is a machine's kube-apiserver, asked without kubectl: starting that takes
// longer than what is measured.
type apiServer struct {
	url    string
	client *http.Client
}

// cluster returns the machine's API server, with the workload's image loaded.
func (m *bootedMachine) cluster(ctx context.Context, workload string) (*apiServer, error) {
	if _, err := vm.LoadImage(ctx, pods.NewClient(m.admin), workload); err != nil {
		return nil, fmt.Errorf("load %s: %w", workload, err)
	}
	text, err := vm.Kubeconfig(ctx, m.admin, m.KubeURL())
	if err != nil {
		return nil, err
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				CA []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Certificate []byte `json:"client-certificate-data"`
				Key         []byte `json:"client-key-data"`
			}
		}
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(config.Users[0].User.Certificate, config.Users[0].User.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.Clusters[0].Cluster.CA)
	return &apiServer{m.KubeURL(), &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}},
	}}}, nil
}

const podsPath = "/api/v1/namespaces/default/pods"

// pods creates and deletes n pods, one after the other, and returns how long each took
// from the request until the API said that it runs.
func (a *apiServer) pods(ctx context.Context, n int) ([]time.Duration, error) {
	var took []time.Duration
	for i := range n {
		name := fmt.Sprintf("bench-%d", i)
		begin := time.Now()
		if err := a.create(ctx, podsPath, pod(name)); err != nil {
			return took, err
		}
		if err := a.runs(ctx, name); err != nil {
			return took, err
		}
		took = append(took, time.Since(begin))
		if err := a.do(ctx, http.MethodDelete, podsPath+"/"+name+"?gracePeriodSeconds=0", nil, nil); err != nil {
			return took, err
		}
	}
	return took, nil
}

func pod(name string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "labels": map[string]string{"app": "bench"}},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "workload", "image": vm.TestImageName}}},
	}
}

// create tries until the namespace has what a pod needs, which a new cluster makes
// just after its node is Ready.
func (a *apiServer) create(ctx context.Context, path string, object any) error {
	for {
		err := a.do(ctx, http.MethodPost, path, object, nil)
		if e := (refused{}); !errors.As(err, &e) || e.code != http.StatusForbidden || !vm.Pause(ctx) {
			return err
		}
	}
}

// runs watches until the pod's phase is Running.
func (a *apiServer) runs(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	r, err := a.send(ctx, http.MethodGet, podsPath+"?watch=1&fieldSelector=metadata.name="+name, nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	events := json.NewDecoder(r.Body)
	for {
		var event struct {
			Object struct{ Status struct{ Phase string } }
		}
		if err := events.Decode(&event); err != nil {
			return fmt.Errorf("watch pod %s: %w", name, err)
		}
		if event.Object.Status.Phase == "Running" {
			return nil
		}
	}
}

// refused is an answer that says no.
type refused struct {
	code int
	text string
}

func (r refused) Error() string { return fmt.Sprintf("%d: %s", r.code, r.text) }

func (a *apiServer) do(ctx context.Context, method, path string, object, answer any) error {
	r, err := a.send(ctx, method, path, object)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

// send returns an answer whose code is below 300.
func (a *apiServer) send(ctx context.Context, method, path string, object any) (*http.Response, error) {
	body, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	r, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	if r.StatusCode >= 300 {
		defer r.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(r.Body, 1<<10)) // what there is of a reason
		return nil, fmt.Errorf("%s %s: %w", method, path, refused{r.StatusCode, string(text)})
	}
	return r, nil
}
