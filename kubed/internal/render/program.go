package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"strings"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// Program is what a component is started with.
type Program struct {
	Name     string // PID 1's name of it
	Receiver string // whose folder its files go to
	Args     []string
	Files    []File
}

// File is a file in the receiver's folder.
type File struct {
	Name string // may have a folder of its own before it
	Text string
	Live bool // read again when it changes
}

const domain = "pods" // the receiver for all programs that live with the pods

// Programs renders every component, in the order in which they are to start. It
// fails if extra arguments are not possible; the error says which and why.
func Programs(n Node) ([]Program, error) {
	all := []*draft{
		{Program: Program{Name: "etcdd", Receiver: "etcdd"}},
		{Program: Program{Name: "pods", Receiver: domain}},
		containerd(n),
		{Program: Program{Name: "podd", Receiver: "podd"}},
		apiserver(n),
		controllerManager(n),
		scheduler(n),
		kubelet(n),
		proxy(n),
		coredns(n),
	}
	var out []Program
	for _, d := range all {
		if err := d.merge(n.ExtraArgs[d.Name]); err != nil {
			return nil, err
		}
		for _, f := range d.flags {
			if f.fixed || tuned {
				d.Args = append(d.Args, "--"+f.name+"="+f.value)
			}
		}
		out = append(out, d.Program)
	}
	return out, nil
}

// draft is a program that is being written.
type draft struct {
	Program
	flags []flag
	filed []string // flags of cluster.yaml that are in a configuration file
}

func newDraft(name, receiver string) *draft {
	return &draft{Program: Program{Name: name, Receiver: receiver}}
}

// file adds a file that is read once and returns its path.
func (d *draft) file(name, text string) string {
	sum := sha256.Sum256([]byte(text))
	ext := path.Ext(name)
	name = strings.TrimSuffix(name, ext) + "-" + hex.EncodeToString(sum[:4]) + ext
	return d.add(File{Name: name, Text: text})
}

// live adds a file that is read again when it changes and returns its path.
func (d *draft) live(name, text string) string {
	return d.add(File{Name: name, Text: text, Live: true})
}

func (d *draft) add(f File) string {
	d.Files = append(d.Files, f)
	return path.Join(abi.ShareDir, "kubed", d.Receiver, f.Name)
}

// key is the path of a key, certificate or CA that trustd gives to the program.
func (d *draft) key(name string) string {
	return path.Join(abi.ShareDir, "trustd", d.Receiver, name)
}

// kubeconfig is a file by which the program finds the API server and shows who it is.
func (d *draft) kubeconfig(n Node, name, certificate string) string {
	return d.file(name, asJSON(object{
		"apiVersion": "v1", "kind": "Config",
		"clusters": list{object{"name": n.Cluster, "cluster": object{
			"server": "https://127.0.0.1:6443", "certificate-authority": d.key("kubernetes-ca.crt"),
		}}},
		"users": list{object{"name": "self", "user": object{
			"client-certificate": d.key(certificate + ".crt"), "client-key": d.key(certificate + ".key"),
		}}},
		"contexts":        list{object{"name": "self", "context": object{"cluster": n.Cluster, "user": "self"}}},
		"current-context": "self",
	}))
}

type (
	object = map[string]any
	list   = []any
)

// asJSON writes what has been put together here, which cannot fail.
func asJSON(v any) string {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return string(text) + "\n"
}
