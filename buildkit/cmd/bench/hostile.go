package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// hostile compares an admin's calls while clients of all kinds stall with calls while nothing else
// happens: routerd's own benchmark, with the gateway and the attackers as separate processes.
func hostile(ctx context.Context, b *bench) ([]result, error) {
	const benchmark = "BenchmarkHostile"
	cmd := exec.CommandContext(ctx, "go", "test", "-tags", "grpcnotrace,netgo,osusergo", "-run", "-",
		"-bench", "^"+benchmark+"$", "-benchtime", fmt.Sprintf("%dx", b.times(2_000, 400)), "-timeout", "20m", "./daemons/routerd")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	found := map[string]float64{}
	for _, unit := range []string{"hostile-p99-ratio", "hostile-p99-µs", "idle-p99-µs", "attackers-%-of-one-core"} {
		all := metrics(string(out), benchmark, unit)
		if len(all) != 1 {
			return nil, fmt.Errorf("no %s of %s in\n%s", unit, benchmark, out)
		}
		found[unit] = all[0]
	}
	return []result{
		atMost("calls of an admin at 50/s while 600 hostile connections stall, p99, against an idle gateway", found["hostile-p99-ratio"], 3, "×"),
		compared("while they stall, p99", found["hostile-p99-µs"]/1000, "ms"),
		compared("idle, p99", found["idle-p99-µs"]/1000, "ms"),
		atMost("processor time of the attackers, of one core", found["attackers-%-of-one-core"], 10, "%"),
	}, nil
}
