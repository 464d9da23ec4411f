package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/daemons/podd/internal/cri"

	"github.com/dactyl-os/dactyl/ipc/words"
)

// TestStories reads testdata/*.txt. An empty line begins the next story. A story's
// lines are what there is, then "-> " and what podd makes of it; what the lines of a
// file look like, its first comment says.
func TestStories(t *testing.T) {
	tellers := map[string]func(lines []string) (string, error){
		"names.txt":    tellName,
		"keys.txt":     tellKey,
		"archives.txt": tellArchive,
		"end.txt":      tellEnd,
		"pods.txt":     tellPods,
		"room.txt":     tellRoom,
	}
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) != len(tellers) {
		t.Fatal(scripts, err)
	}
	for _, path := range scripts {
		t.Run(filepath.Base(path), func(t *testing.T) { tell(t, path, tellers[filepath.Base(path)]) })
	}
}

func tell(t *testing.T, path string, teller func([]string) (string, error)) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var given, want []string
	finish := func(n int) {
		if given == nil && want == nil {
			return
		}
		got, err := teller(given)
		if err != nil {
			got = "refused: " + err.Error()
		}
		if got = strings.TrimSpace(got); got != strings.Join(want, "\n") {
			t.Errorf("%s:%d: %s\ngot:\n%s\nwant:\n%s", path, n, strings.Join(given, "\n"), got, strings.Join(want, "\n"))
		}
		given, want = nil, nil
	}
	lines := bufio.NewScanner(f)
	n := 1
	for ; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "":
			finish(n)
		case line[0] == '#':
		case strings.HasPrefix(line, "-> "):
			want = append(want, strings.TrimPrefix(line, "-> "))
		default:
			given = append(given, line)
		}
	}
	finish(n)
}

// A name that a person gave marks the image as loaded, one of the system's as the
// system's, whatever else it is called.
func TestOrigin(t *testing.T) {
	kept := map[string]bool{"pause:1": false, "app:1": true}
	for _, c := range []struct {
		names          []string
		system, loaded bool
	}{
		{nil, false, false},
		{[]string{"pulled:1"}, false, false},
		{[]string{"pulled:1", "app:1"}, false, true},
		{[]string{"pause:1"}, true, false},
		{[]string{"app:1", "pause:1"}, true, true},
	} {
		system, loaded := origin(&cri.Image{RepoTags: c.names}, kept)
		if system != c.system || loaded != c.loaded {
			t.Errorf("%q: system %v, loaded %v", c.names, system, loaded)
		}
	}
}

// What a person loads is pinned by its tags alone: a digest never moves, and would keep
// an image that has been replaced.
func TestLabelsOfLoadedNames(t *testing.T) {
	var person loading
	if l := person.labels("docker.io/library/app:1"); l[pinnedLabel] != pinnedValue || l[loadedLabel] != loadedValue {
		t.Errorf("%v", l)
	}
	if l := person.labels("docker.io/library/app@" + digestOf(nil)); len(l) != 0 {
		t.Errorf("%v", l)
	}
	if l := (loading{system: true}).labels("dactyl.invalid/pause:1"); l[pinnedLabel] != pinnedValue || l[loadedLabel] != "" {
		t.Errorf("%v", l)
	}
}

func tellName(lines []string) (string, error) { return fullName(lines[0]) }
func tellKey(lines []string) (string, error)  { return imageKey(lines[0]) }

func tellRoom(lines []string) (string, error) {
	var size, used uint64
	_, err := fmt.Sscanf(lines[0], "size %d used %d", &size, &used)
	return fmt.Sprint(room(size, used)), err
}

// tellArchive reads "PATH TEXT" for each file and "PATH => PATH" for a link; "called
// NAME" is the caller's. {PATH} stands for the digest and size of another file, as in a
// descriptor, {digest PATH} for the digest alone, {hex PATH}, and in a path {hex:PATH},
// for the digest without "sha256:".
func tellArchive(lines []string) (string, error) {
	name := ""
	var entries []entry
	texts := map[string]string{}
	for _, l := range lines {
		path, text, _ := strings.Cut(l, " ")
		for other, is := range texts {
			text = strings.ReplaceAll(text, "{"+other+"}", fmt.Sprintf(`"digest":%q,"size":%d`, digestOf([]byte(is)), len(is)))
			text = strings.ReplaceAll(text, "{digest "+other+"}", digestOf([]byte(is)))
			hex := strings.TrimPrefix(digestOf([]byte(is)), "sha256:")
			text = strings.ReplaceAll(text, "{hex "+other+"}", hex)
			path = strings.ReplaceAll(path, "{hex:"+other+"}", hex)
		}
		switch to, link := strings.CutPrefix(text, "=> "); {
		case path == "called":
			name = text
		case link:
			entries = append(entries, entry{name: path, link: to})
		default:
			texts[path] = text
			entries = append(entries, entry{name: path, data: []byte(text)})
		}
	}
	blobs := map[string]string{}
	a, err := readArchive(strings.NewReader(string(tarOf(entries...))), func(_ int64, r io.Reader) (string, error) {
		data, err := io.ReadAll(r)
		blobs[digestOf(data)] = string(data)
		return digestOf(data), err
	})
	if err != nil {
		return "", bad("%s", readable(err.Error(), texts))
	}
	all, err := a.images(name, func(b blob) ([]byte, error) { return []byte(blobs[b.digest]), nil })
	if err != nil {
		return "", bad("%s", readable(err.Error(), texts))
	}
	var out strings.Builder
	for _, i := range all {
		fmt.Fprintf(&out, "%s: %s", strings.Join(i.names, " "), readable(i.config.Digest, texts))
		for _, l := range i.layers {
			fmt.Fprintf(&out, ", %s as %s", readable(l.Digest, texts), strings.TrimPrefix(l.MediaType, "application/vnd."))
		}
		fmt.Fprintln(&out)
	}
	return out.String(), nil
}

// readable writes files' names instead of their digests.
func readable(text string, files map[string]string) string {
	for name, is := range files {
		text = strings.ReplaceAll(text, digestOf([]byte(is)), name)
	}
	for name, is := range files {
		text = strings.ReplaceAll(text, strings.TrimPrefix(digestOf([]byte(is)), "sha256:"), "{hex:"+name+"}")
	}
	return text
}

// runtime reads what there is: "pod NAMESPACE/NAME [#ATTEMPT] [stopped]" and, of the
// pod before it, "container NAME [#ATTEMPT] STATE [grace SECONDS]".
func runtime(lines []string) (sandboxes []*cri.PodSandbox, containers []*cri.Container, err error) {
	for n, l := range lines {
		fields := strings.Fields(l)
		attempt := uint32(0)
		fields = slices.DeleteFunc(fields, func(w string) bool {
			n, _ := fmt.Sscanf(w, "#%d", &attempt)
			return n == 1
		})
		id := fmt.Sprint(n)
		switch fields[0] {
		case "pod":
			namespace, name, _ := strings.Cut(fields[1], "/")
			s := &cri.PodSandbox{Id: id, Metadata: &cri.PodSandboxMetadata{Namespace: namespace, Name: name, Uid: name, Attempt: attempt}}
			if len(fields) > 2 {
				s.State = cri.PodSandboxState_SANDBOX_NOTREADY
			}
			sandboxes = append(sandboxes, s)
		case "container":
			c := &cri.Container{Id: id, PodSandboxId: sandboxes[len(sandboxes)-1].Id, Metadata: &cri.ContainerMetadata{Name: fields[1], Attempt: attempt}, Image: &cri.ImageSpec{Image: "i"}}
			for state, ours := range containerStates {
				if words.Of(ours) == fields[2] {
					c.State = state
				}
			}
			if len(fields) > 3 {
				c.Annotations = map[string]string{graceAnnotation: fields[4]}
			}
			containers = append(containers, c)
		default:
			return nil, nil, fmt.Errorf("%q: pod or container", l)
		}
	}
	return sandboxes, containers, nil
}

func tellPods(lines []string) (string, error) {
	sandboxes, containers, err := runtime(lines)
	var out strings.Builder
	for _, p := range describe(sandboxes, containers) {
		fmt.Fprintf(&out, "%s/%s %s, %d restarts:", p.Namespace, p.Name, words.Of(p.State), p.Restarts)
		for _, c := range p.Containers {
			fmt.Fprintf(&out, " %s %s %d", c.Name, words.Of(c.State), c.Restarts)
		}
		fmt.Fprintln(&out)
	}
	return out.String(), err
}

// tellEnd takes, besides what there is, "SECONDS later" for how long the waves before
// the last have taken.
func tellEnd(lines []string) (string, error) {
	var late int
	if n, _ := fmt.Sscanf(lines[len(lines)-1], "%d later", &late); n == 1 {
		lines = lines[:len(lines)-1]
	}
	sandboxes, containers, err := runtime(lines)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	all := waves(sandboxes, containers)
	for n, w := range all {
		left := endTimeout
		if n == len(all)-1 {
			left -= time.Duration(late) * time.Second
		}
		var what []string
		for _, v := range w.containers {
			what = append(what, fmt.Sprintf("%s %v", v.name, allowed(v.grace, left)))
		}
		what = append(what, "then")
		for _, v := range w.sandboxes {
			what = append(what, v.name)
		}
		fmt.Fprintln(&out, strings.Join(what, " "))
	}
	return out.String(), nil
}
