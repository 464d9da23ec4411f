package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

var healthy, ready atomic.Bool

// serve does not return.
func serve() {
	healthy.Store(true)
	ready.Store(true)
	http.HandleFunc("/", who)
	http.HandleFunc("/healthz", answerable(&healthy))
	http.HandleFunc("/readyz", answerable(&ready))
	http.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, os.Getenv(r.FormValue("name"))) })
	http.HandleFunc("/files/", files)
	http.HandleFunc("/get", get)
	http.HandleFunc("/lookup", lookup)
	http.HandleFunc("/exit", exit)
	http.HandleFunc("/eat", eat)
	http.HandleFunc("/burn", burn)
	host, _ := os.Hostname()
	log.Printf("workload: %s listens on port 8080 as user %d", host, os.Getuid())
	go func() {
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		<-term
		log.Print("workload: asked to end")
		os.Exit(0)
	}()
	log.Fatal(http.ListenAndServe(":8080", nil))
}

func who(w http.ResponseWriter, r *http.Request) {
	host, _ := os.Hostname()
	log.Printf("workload: %s %s from %s", r.Method, r.URL, r.RemoteAddr)
	fmt.Fprintf(w, "pod %s node %s from %s: %s %s %s\n", host, os.Getenv("NODE"), r.RemoteAddr, r.Method, r.Host, r.URL)
}

func answerable(yes *atomic.Bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			b, _ := io.ReadAll(r.Body)
			yes.Store(strings.TrimSpace(string(b)) != "no")
		} else if !yes.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, yes.Load())
	}
}

func files(w http.ResponseWriter, r *http.Request) {
	path := filepath.Clean(strings.TrimPrefix(r.URL.Path, "/files"))
	if r.Method != http.MethodPut {
		http.ServeFile(w, r, path)
		return
	}
	if err := put(path, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// put writes a file so that it is on the disk when it returns.
func put(path string, from io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, from); err != nil {
		return err
	}
	return f.Sync()
}

func get(w http.ResponseWriter, r *http.Request) {
	client := http.Client{Timeout: 50 * time.Second} // less than the caller waits
	answer, err := client.Get(r.FormValue("url"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	w.WriteHeader(answer.StatusCode)
	io.Copy(w, answer.Body)
}

func lookup(w http.ResponseWriter, r *http.Request) {
	found, err := net.DefaultResolver.LookupHost(r.Context(), r.FormValue("name"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	fmt.Fprintln(w, strings.Join(found, " "))
}

func exit(_ http.ResponseWriter, r *http.Request) {
	code, _ := strconv.Atoi(r.FormValue("code"))
	log.Printf("workload: exit %d", code)
	os.Exit(code)
}

var eaten [][]byte

func eat(_ http.ResponseWriter, r *http.Request) {
	mib, _ := strconv.Atoi(r.FormValue("mib"))
	for range mib {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		eaten = append(eaten, b)
	}
}

func burn(_ http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("seconds"))
	for end := time.Now().Add(time.Duration(n) * time.Second); time.Now().Before(end); {
	}
}
