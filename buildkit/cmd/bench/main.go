// Command bench measures what Dactyl promises about itself and prints each figure
// beside its target. It measures; it does not judge: a missed target is printed,
// and only a figure that could not be measured makes the command fail.
//
//	go run ./buildkit/cmd/bench                  # everything, about two hours without KVM
//	go run ./buildkit/cmd/bench -only kill,gateway
//	go run ./buildkit/cmd/bench -write           # also into docs/measurements.md
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dactyl-os/dactyl/test/native"
)

// figures are all that is measured, in the order of the table.
var figures = []struct {
	name    string // for -only
	measure func(context.Context, *bench) ([]result, error)
}{
	{"size", sizes},
	{"boot", boots},
	{"memory", memory},
	{"ready", readiness},
	{"node", node},
	{"resume", resumes},
	{"idle", idle},
	{"kill", kills},
	{"gateway", gateway},
	{"hostile", hostile},
	{"replace", replacements},
	{"etcd", databases},
	{"edit", edit},
}

// result is one line of the table.
type result struct {
	what     string
	measured string
	target   string // empty: only for comparison
	missed   bool
}

// bench is one run: how long to take, and what several figures share.
type bench struct {
	quick   bool
	machine *bootedMachine
	system  *nativeSystem
}

// times returns how often to repeat something.
func (b *bench) times(whole, quick int) int {
	if b.quick {
		return quick
	}
	return whole
}

func (b *bench) close() {
	if b.machine != nil {
		b.machine.close()
	}
	if b.system != nil {
		b.system.close()
	}
}

func main() {
	native.Stage()
	only := flag.String("only", "", "measure just these `figures`: "+names())
	quick := flag.Bool("quick", false, "repeat less: rougher figures, sooner")
	write := flag.Bool("write", false, "write the table into "+document)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only, *quick, *write); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func names() string {
	var all []string
	for _, f := range figures {
		all = append(all, f.name)
	}
	return strings.Join(all, ",")
}

func run(ctx context.Context, only string, quick, write bool) error {
	if write && (only != "" || quick) {
		return fmt.Errorf("-write wants the whole table, without -only and -quick")
	}
	wanted := strings.Split(names(), ",")
	if only != "" {
		wanted = strings.Split(only, ",")
	}
	for _, name := range wanted {
		if !strings.Contains(","+names()+",", ","+name+",") {
			return fmt.Errorf("no figure %q: there are %s", name, names())
		}
	}
	b := &bench{quick: quick}
	defer b.close()
	var table []result
	var failed []string
	for _, f := range figures {
		if !slices.Contains(wanted, f.name) {
			continue
		}
		begin := time.Now()
		progress("%s …", f.name)
		results, err := f.measure(ctx, b)
		table = append(table, results...)
		if err != nil {
			progress("%s: %v", f.name, err)
			failed = append(failed, f.name)
			table = append(table, result{what: f.name, measured: "could not be measured", missed: true})
		}
		progress("%s took %.0f s", f.name, time.Since(begin).Seconds())
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	text := report(ctx, table)
	fmt.Print(text)
	if len(failed) > 0 {
		return fmt.Errorf("measure %s: no figure", strings.Join(failed, ", "))
	}
	if write {
		return writeDocument(text)
	}
	return nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
