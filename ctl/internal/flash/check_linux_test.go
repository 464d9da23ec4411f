package flash

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheck runs the stories of testdata/check.txt. Each begins with "# TITLE",
// describes a computer in lines of its own little language, and ends with
// what Check says:
//
//	disk NAME MAJOR:MINOR BYTES [ATTRIBUTE=VALUE …]
//	part DISK NAME MAJOR:MINOR
//	hold DEVICE BY                BY is another disk, built upon DEVICE
//	mount MAJOR:MINOR TARGET
//	check MAJOR:MINOR BYTES       the question; the answer follows it
func TestCheck(t *testing.T) {
	b, err := os.ReadFile("testdata/check.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, story := range strings.Split("\n"+string(b), "\n# ")[1:] {
		title, body, _ := strings.Cut(story, "\n")
		t.Run(title, func(t *testing.T) { newComputer(t).tell(strings.TrimSpace(body)) })
	}
}

type computer struct {
	t    *testing.T
	host Host
	dirs map[string]string // device → its directory in sysfs
}

func newComputer(t *testing.T) *computer {
	dir := t.TempDir()
	c := &computer{t, Host{Sys: filepath.Join(dir, "sys"), Proc: filepath.Join(dir, "proc")}, map[string]string{}}
	c.write(filepath.Join(c.host.Proc, "self/mountinfo"), "20 1 0:5 / /proc rw - proc proc rw\n")
	return c
}

func (c *computer) tell(story string) {
	lines := strings.Split(story, "\n")
	for i, line := range lines {
		w := strings.Fields(line)
		switch w[0] {
		case "disk":
			c.device(filepath.Join(c.host.Sys, "devices", w[1]), w[1], w[2])
			var bytes int64
			fmt.Sscan(w[3], &bytes)
			c.write(filepath.Join(c.dirs[w[1]], "size"), fmt.Sprint(bytes/sectorSize))
			for _, a := range w[4:] {
				name, value, _ := strings.Cut(a, "=")
				c.write(filepath.Join(c.dirs[w[1]], name), value)
			}
		case "part":
			dir := filepath.Join(c.dirs[w[1]], w[2])
			c.device(dir, w[2], w[3])
			c.write(filepath.Join(dir, "partition"), "1")
		case "hold":
			dir := filepath.Join(c.dirs[w[1]], "holders")
			c.must(os.MkdirAll(dir, 0o755))
			c.must(os.Symlink(c.dirs[w[2]], filepath.Join(dir, w[2])))
		case "mount":
			f, err := os.OpenFile(filepath.Join(c.host.Proc, "self/mountinfo"), os.O_APPEND|os.O_WRONLY, 0)
			c.must(err)
			fmt.Fprintf(f, "30 1 %s / %s rw - ext4 none rw\n", w[1], w[2])
			c.must(f.Close())
		case "check":
			c.check(w[1], w[2], strings.Join(lines[i+1:], "\n"))
			return
		default:
			c.t.Fatalf("unknown word %q", w[0])
		}
	}
}

func (c *computer) check(number, bytes, want string) {
	var image int64
	fmt.Sscan(bytes, &image)
	n, err := parseDevno(number)
	c.must(err)
	got := "ok"
	_, err = c.host.checkDevice("/dev/target", n, image)
	if err != nil {
		got = err.Error()
		if !errors.As(err, new(*Refused)) {
			got = "not a refusal: " + got
		}
	}
	if got != want {
		c.t.Errorf("got  %s\nwant %s", got, want)
	}
}

func (c *computer) device(dir, name, number string) {
	c.dirs[name] = dir
	c.write(filepath.Join(dir, "dev"), number)
	link := filepath.Join(c.host.Sys, "dev/block", number)
	c.must(os.MkdirAll(filepath.Dir(link), 0o755))
	c.must(os.Symlink(dir, link))
}

func (c *computer) write(path, content string) {
	c.must(os.MkdirAll(filepath.Dir(path), 0o755))
	c.must(os.WriteFile(path, []byte(content), 0o644))
}

func (c *computer) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// A disk is another one when any of what Check has seen differs, also where the next stick
// gets the number of the last: the kernel counts the disks that are plugged in.
func TestSameDisk(t *testing.T) {
	c := newComputer(t)
	c.tell("disk sdb 8:16 1048576 diskseq=12 device/model=Stick removable=1\ndisk sdc 8:32 1048576 diskseq=13 device/model=Stick removable=1")
	number := devno{8, 16}
	d := describe("/dev/sdb", c.dirs["sdb"], number)
	if !c.host.is(d, number) {
		t.Fatal("a disk is not itself")
	}
	if c.host.is(d, devno{8, 32}) || c.host.is(d, devno{8, 48}) {
		t.Error("another number is the same disk")
	}
	for file, content := range map[string]string{"diskseq": "14", "device/model": "Other", "size": "4096", "removable": "0"} {
		path := filepath.Join(c.dirs["sdb"], file)
		before, err := os.ReadFile(path)
		c.must(err)
		c.write(path, content)
		if c.host.is(d, number) {
			t.Errorf("another %s is the same disk", file)
		}
		c.write(path, string(before))
	}
}
