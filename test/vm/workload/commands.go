package main

import (
	"archive/tar"
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// answerTimeout is for one request, on a machine without KVM that does much else.
const answerTimeout = 20 * time.Second

// commands are what the image has instead of tools.
var commands map[string]func(args []string) error

func init() {
	commands = map[string]func([]string) error{
		"cat":     cat,     // FILE…
		"write":   write,   // FILE: its input; on the disk when it ends
		"receive": receive, // FILE SIZE: its input, of SIZE bytes, after it has closed its outputs, as "cat > FILE" does
		"rm":      rm,      // PATH…
		"ls":      ls,      // DIR [SKIP…]: every file below, as far as it can be read, but nothing below SKIP
		"ps":      ps,      // every process of /proc: PID, user, name, arguments
		"get":     getURL,  // URL
		"api":     askAPI,  // DIR PATH: kube-apiserver, with the token and ca.crt of DIR
		"each":    each,    // every line of its input is one of these; tells what came of it
		"echo":    echo,    // WORD…
		"true":    succeed, //
		"false":   func([]string) error { return errors.New("as asked") },
		"exit":    exitWith,      // CODE
		"sleep":   sleep,         // DURATION
		"say":     say,           // N: so many lines, one a second
		"mknod":   mknod,         // PATH b|c MAJOR MINOR
		"mount":   mount,         // TYPE SOURCE TARGET
		"connect": connect,       // NETWORK ADDRESS
		"freeze":  freeze,        // CGROUP FILE: see freeze.go
		"nextns":  nextNamespace, // FILE of a mount namespace: opens the one after it
		"tar":     tarball,       // cf - PATH…, or xmf - [-C DIR]
		"test":    testFile,      // -d PATH, -e PATH
	}
}

// nextNamespace asks the kernel for the mount namespace after one, of whatever process it is.
func nextNamespace(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	const nsMntGetNext = 0x8010b70b // linux/nsfs.h: _IOR(0xb7, 11, struct mnt_ns_info)
	var info [16]byte
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), nsMntGetNext, uintptr(unsafe.Pointer(&info))); errno != 0 {
		return errno
	}
	return nil
}

func cat(args []string) error {
	for _, path := range args {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if _, err := io.Copy(os.Stdout, f); err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

func write(args []string) error { return put(args[0], os.Stdin) }

// receive has no way to tell what came of it but its exit code.
func receive(args []string) error {
	os.Stdout.Close()
	os.Stderr.Close()
	if err := put(args[0], os.Stdin); err != nil {
		return err
	}
	info, err := os.Stat(args[0])
	if err == nil && strconv.FormatInt(info.Size(), 10) != args[1] {
		err = fmt.Errorf("%s has %d bytes, not %s", args[0], info.Size(), args[1])
	}
	return err
}

func rm(args []string) error {
	for _, path := range args {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

func ls(args []string) error {
	return filepath.WalkDir(args[0], func(path string, d fs.DirEntry, err error) error {
		if slices.Contains(args[1:], path) {
			return fs.SkipDir
		}
		if err != nil {
			fmt.Println("?", path, err)
			return nil
		}
		fmt.Println(d.Type(), path)
		return nil
	})
}

func ps([]string) error {
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range all {
		name, err := os.ReadFile(dir + "/comm")
		if err != nil {
			continue // it has gone
		}
		arguments, _ := os.ReadFile(dir + "/cmdline")
		user := "?"
		if s, err := os.Stat(dir); err == nil {
			user = fmt.Sprint(s.Sys().(*syscall.Stat_t).Uid)
		}
		fmt.Println(filepath.Base(dir), user, strings.TrimSpace(string(name)), strings.ReplaceAll(string(arguments), "\x00", " "))
	}
	return nil
}

func getURL(args []string) error {
	r, err := http.NewRequest(http.MethodGet, args[0], nil)
	if err != nil {
		return err
	}
	return printAnswer(&http.Client{}, r)
}

func askAPI(args []string) error {
	token, err := os.ReadFile(filepath.Join(args[0], "token"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(args[0], "ca.crt"))
	if err != nil {
		return err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(ca)
	r, err := http.NewRequest(http.MethodGet, "https://kubernetes.default.svc"+args[1], nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+string(token))
	return printAnswer(&http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}, r)
}

func printAnswer(client *http.Client, request *http.Request) error {
	client.Timeout = answerTimeout
	r, err := client.Do(request)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if _, err := io.Copy(os.Stdout, r.Body); err != nil {
		return err
	}
	if r.StatusCode >= 400 {
		return errors.New(r.Status)
	}
	return nil
}

func each([]string) error {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		err := fmt.Errorf("no command %q", lines.Text())
		if len(words) > 0 && commands[words[0]] != nil {
			err = commands[words[0]](words[1:])
		}
		if err == nil {
			err = errors.New("done")
		}
		fmt.Printf("%s -> %v\n", lines.Text(), err)
	}
	return nil
}

func echo(args []string) error {
	fmt.Println(strings.Join(args, " "))
	return nil
}

func succeed([]string) error { return nil }

func exitWith(args []string) error {
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

func sleep(args []string) error {
	d, err := time.ParseDuration(args[0])
	time.Sleep(d)
	return err
}

func say(args []string) error {
	n, err := strconv.Atoi(args[0])
	for i := range n {
		fmt.Println("line", i+1)
		time.Sleep(time.Second)
	}
	return err
}

func mknod(args []string) error {
	if len(args) != 4 {
		return errors.New("want PATH b|c MAJOR MINOR")
	}
	kind := map[string]uint32{"b": syscall.S_IFBLK, "c": syscall.S_IFCHR}[args[1]]
	major, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	minor, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	return syscall.Mknod(args[0], kind|0o600, major<<8|minor)
}

func mount(args []string) error {
	if len(args) != 3 {
		return errors.New("want TYPE SOURCE TARGET")
	}
	return syscall.Mount(args[1], args[2], args[0], 0, "")
}

func connect(args []string) error {
	c, err := net.DialTimeout(args[0], args[1], 5*time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func testFile(args []string) error {
	if len(args) != 2 {
		return errors.New("want -d PATH or -e PATH")
	}
	s, err := os.Stat(args[1])
	if err == nil && args[0] == "-d" && !s.IsDir() {
		err = errors.New("not a directory")
	}
	return err
}

// tarball does what kubectl cp asks of tar.
func tarball(args []string) error {
	if len(args) < 2 || args[1] != "-" {
		return fmt.Errorf("%q: want cf - PATH…, or xmf - -C DIR", args)
	}
	rest := args[2:]
	if strings.Contains(args[0], "x") {
		dir := "."
		if i := slices.Index(rest, "-C"); i >= 0 && i+1 < len(rest) {
			dir = rest[i+1]
		}
		return unpack(dir)
	}
	w := tar.NewWriter(os.Stdout)
	for _, path := range rest {
		if err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error { return pack(w, path, err) }); err != nil {
			return err
		}
	}
	return w.Close()
}

func pack(w *tar.Writer, path string, err error) error {
	if err != nil {
		return err
	}
	s, err := os.Lstat(path)
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(s, "")
	if err != nil {
		return err
	}
	h.Name = strings.TrimPrefix(path, "/")
	if err := w.WriteHeader(h); err != nil || !s.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func unpack(dir string) error {
	r := tar.NewReader(os.Stdin)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = put(path, r)
		}
		if err != nil {
			return err
		}
	}
}
