package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/url"
	"time"

	"github.com/spf13/pflag"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

const kubeconfigLong = `Print a kubeconfig with the rights of a cluster's admin, for kubectl and all other
Kubernetes clients. The key is made here and never leaves this computer.

With --out it is written to a file that you alone can read; a shell's "> FILE" may let
others read the key.

The certificate in it is good for --ttl; print another one then. With --exec there
is no certificate in it: kubectl runs this command for one whenever it needs it, so
it stays good for as long as this computer's own credentials do.`

// kubeTTL is the life of a Kubernetes certificate: as long as one of the OS'.
const kubeTTL = 24 * time.Hour

func kubeconfigFlags(f *pflag.FlagSet) {
	f.String("server", "", "`URL` of the Kubernetes API, where it is reached another way")
	f.String("context-name", "", "`name` of cluster and context in it (default the cluster's)")
	f.String("name", "", "the `user` that the cluster's audit log shows (default this context's)")
	f.Duration("ttl", kubeTTL, "how `long` its certificate is valid")
	f.String("out", "", "`file` to write it to, instead of printing it")
	f.Bool("exec", false, "have kubectl run this command for certificates")
}

// kubeconfig is a file of Kubernetes clients; []byte is base64 in it.
type kubeconfig struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Clusters   []namedCluster `json:"clusters"`
	Users      []namedUser    `json:"users"`
	Contexts   []namedContext `json:"contexts"`
	Current    string         `json:"current-context"`
}

type namedCluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server    string `json:"server"`
		Authority []byte `json:"certificate-authority-data"`
	} `json:"cluster"`
}

type namedUser struct {
	Name string   `json:"name"`
	User kubeUser `json:"user"`
}

type kubeUser struct {
	Certificate []byte    `json:"client-certificate-data,omitempty"`
	Key         []byte    `json:"client-key-data,omitempty"`
	Exec        *kubeExec `json:"exec,omitempty"`
}

type namedContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context"`
}

func newKubeconfig(name, user, server string, authority []byte, as kubeUser) kubeconfig {
	k := kubeconfig{APIVersion: "v1", Kind: "Config", Current: name}
	k.Clusters = []namedCluster{{Name: name}}
	k.Clusters[0].Cluster.Server, k.Clusters[0].Cluster.Authority = server, authority
	k.Users = []namedUser{{user, as}}
	k.Contexts = []namedContext{{Name: name}}
	k.Contexts[0].Context.Cluster, k.Contexts[0].Context.User = name, user
	return k
}

func showKubeconfig(c *call) error {
	server := c.flag("server")
	if u, err := url.Parse(server); server != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		return fail(exitUsage, "--server %s: want a URL such as https://192.0.2.10:6443", server)
	}
	return c.withMachine(func(s *session) error {
		info, err := kube.NewClient(s).GetKubeconfigInfo(c.ctx, &kube.GetKubeconfigInfoRequest{})
		if err != nil {
			return err
		}
		as, err := c.kubeUser(s)
		if err != nil {
			return err
		}
		server, err := nearest(first(server, sameHost(info.Servers, s.machine.Address)), info.Servers)
		if err != nil {
			return err
		}
		name := first(c.flag("context-name"), info.Cluster)
		return c.showKubeconfig(newKubeconfig(name, name+"-"+c.kubeName(s), server, info.Authority, as))
	})
}

// nearest is chosen, or the best that the machine names.
func nearest(chosen string, servers []string) (string, error) {
	if chosen != "" {
		return chosen, nil
	}
	if len(servers) == 0 {
		return "", fail(exitRefused, "the machine names no address of the Kubernetes API: want --server")
	}
	return servers[0], nil
}

// sameHost returns the server on the host that address names: it has just been
// reached there.
func sameHost(servers []string, address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	for _, s := range servers {
		if u, err := url.Parse(s); err == nil && u.Hostname() == host {
			return s
		}
	}
	return ""
}

// kubeName is the user's name in Kubernetes.
func (c *call) kubeName(s *session) string {
	name := c.flag("name")
	if cert, err := parseCertificate("certificate", s.machine.Certificate); name == "" && err == nil {
		name = cert.Subject.CommonName
	}
	return first(name, "admin")
}

// kubeUser is who the kubeconfig is for: a new certificate, or how to get one.
func (c *call) kubeUser(s *session) (kubeUser, error) {
	if c.isSet("exec") {
		return c.execUser(s)
	}
	issued, err := c.issueKube(s, c.kubeName(s), c.duration("ttl"))
	if err != nil {
		return kubeUser{}, err
	}
	c.note("%s is an admin of the cluster until %s.", c.kubeName(s), moment(issued.notAfter))
	return kubeUser{Certificate: []byte(issued.certificate), Key: []byte(issued.key)}, nil
}

// kubeCertificate is a Kubernetes client certificate with its key, as PEM.
type kubeCertificate struct {
	certificate, key string
	notAfter         time.Time
}

func (c *call) issueKube(s *session, name string, ttl time.Duration) (kubeCertificate, error) {
	key, text, err := newKey()
	if err != nil {
		return kubeCertificate{}, err
	}
	csr, err := request(key, name)
	if err != nil {
		return kubeCertificate{}, err
	}
	answer, err := trust.NewClient(s).IssueKubernetesClient(c.ctx, &trust.IssueKubernetesClientRequest{
		Csr: csr, Name: name, TtlS: int64(ttl / time.Second),
	})
	if err != nil {
		return kubeCertificate{}, err
	}
	cert, err := checkIssued(answer.Certificate, answer.Authority, key)
	if err != nil {
		return kubeCertificate{}, err
	}
	return kubeCertificate{toPEM(pemCertificate, answer.Certificate), text, cert.NotAfter}, nil
}

func (c *call) showKubeconfig(k kubeconfig) error {
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if c.output == asJSON {
		err = json.Indent(&out, b, "", "  ")
		out.WriteByte('\n')
	} else {
		err = writeYAML(&out, b)
	}
	if err != nil {
		return err
	}
	if file := c.flag("out"); file != "" {
		return writeSecret(file, out.Bytes())
	}
	_, err = out.WriteTo(c.stdout)
	return err
}
