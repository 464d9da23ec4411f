package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// gateway compares the medians of routerd's own benchmarks, which have the same
// handler behind the gateway, behind gRPC over mutual TLS, and behind ttrpc.
func gateway(ctx context.Context, b *bench) ([]result, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-tags", "grpcnotrace,netgo,osusergo", "-run", "-",
		"-bench", "^Benchmark(Gateway|Direct|TtrpcHop)$", "-benchtime", fmt.Sprintf("%dx", b.times(10_000, 2_000)),
		"-count", strconv.Itoa(b.times(5, 3)), "./daemons/routerd")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	medians := map[string]time.Duration{}
	for _, name := range []string{"BenchmarkGateway", "BenchmarkDirect", "BenchmarkTtrpcHop"} {
		all := p50s(string(out), name)
		if len(all) == 0 {
			return nil, fmt.Errorf("no p50-µs of %s in\n%s", name, out)
		}
		medians[name] = percentile(all, 50)
	}
	through, direct := medians["BenchmarkGateway"], medians["BenchmarkDirect"]
	return []result{
		atMost("a call through the gateway, p50, against one over gRPC with mutual TLS to the same handler", float64(through)/float64(direct), 2, "×"),
		compared("through the gateway, p50", us(through), "µs"),
		compared("straight, p50", us(direct), "µs"),
		atMost("a ttrpc hop over a unix socket, p50", us(medians["BenchmarkTtrpcHop"]), 30, "µs"),
	}, nil
}

// p50s finds the values of a benchmark's metric p50-µs.
func p50s(output, benchmark string) []time.Duration {
	var all []time.Duration
	for _, v := range metrics(output, benchmark, "p50-µs") {
		all = append(all, time.Duration(v*float64(time.Microsecond)))
	}
	return all
}

// metrics finds the values of a benchmark's metric.
func metrics(output, benchmark, metric string) []float64 {
	var all []float64
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != benchmark && !strings.HasPrefix(fields[0], benchmark+"-") {
			continue
		}
		for i, unit := range fields {
			if v, err := strconv.ParseFloat(fields[max(0, i-1)], 64); unit == metric && err == nil {
				all = append(all, v)
			}
		}
	}
	return all
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
