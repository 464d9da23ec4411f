package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pullers is a registry's file of users: me, with the password secret.
const pullers = "me:$2b$04$ugPd4wnRL1XFIIIPzAwnyuMNFhDeOSnTDJlxz.jmYBGyE3M6n6LEO\n"

// A pod's imagePullSecrets come to containerd as the kubelet's AuthConfig, in one of these
// forms. The registry is Debian's, with basic auth.
func TestImagePullSecrets(t *testing.T) {
	need(t, "docker-registry")
	need(t, "skopeo")
	p := startContainerd(t)
	dir := t.TempDir()
	users, archive := filepath.Join(dir, "users"), filepath.Join(dir, "image.tar")
	for file, data := range map[string][]byte{users: []byte(pullers), archive: sleepers(t, typeLayerGzip).oci(annotationRef, "example.org/sleeper:1")} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	registry := startRegistry(t, fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s}}\n", users))
	image := registry + "/private/app:1"
	if out, err := exec.Command("skopeo", "copy", "--dest-tls-verify=false", "--dest-creds=me:secret", "oci-archive:"+archive, "docker://"+image).CombinedOutput(); err != nil {
		t.Fatalf("skopeo: %v\n%s", err, out)
	}
	images := criapi.NewImageServiceClient(p.c.conn)
	for _, c := range []struct {
		name  string
		auth  *criapi.AuthConfig
		fails string
	}{
		{"no secret", nil, "no basic auth credentials"},
		{"a wrong password", &criapi.AuthConfig{Username: "me", Password: "wrong"}, "401"},
		{"a secret for another registry", &criapi.AuthConfig{Username: "me", Password: "secret", ServerAddress: "https://example.org"}, "no basic auth credentials"},
		{"username and password", &criapi.AuthConfig{Username: "me", Password: "secret"}, ""},
		{"both in one", &criapi.AuthConfig{Auth: base64.StdEncoding.EncodeToString([]byte("me:secret"))}, ""},
		{"for this registry", &criapi.AuthConfig{Username: "me", Password: "secret", ServerAddress: "http://" + registry}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := &criapi.ImageSpec{Image: image}
			if _, err := images.RemoveImage(t.Context(), &criapi.RemoveImageRequest{Image: spec}); err != nil {
				t.Fatal(err)
			}
			_, err := images.PullImage(t.Context(), &criapi.PullImageRequest{Image: spec, Auth: c.auth})
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Fatalf("%v, want %q", err, c.fails)
			}
			answer, err := images.ImageStatus(t.Context(), &criapi.ImageStatusRequest{Image: spec})
			if err != nil || (answer.Image != nil) != (c.fails == "") {
				t.Errorf("the image is there: %v, %v", answer.GetImage() != nil, err)
			}
		})
	}
}
