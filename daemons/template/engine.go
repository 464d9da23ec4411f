package main

import (
	"fmt"
	"strconv"
	"strings"
)

// state is what was last said of memory.
type state int

const (
	enough state = iota
	short
)

// Memory is short when tasks wait for it shortAt percent of the time, and until
// they wait less than enoughBelow: one limit alone would make it news every
// few seconds.
const (
	shortAt     = 10
	enoughBelow = 2
)

// step returns the next state, and what to say of it if that is new.
func step(s state, percent float64) (next state, news string) {
	switch {
	case s == enough && percent >= shortAt:
		return short, "memory is short"
	case s == short && percent < enoughBelow:
		return enough, "memory is enough again"
	}
	return s, ""
}

// parsePressure returns how much of the last ten seconds some task waited, in
// percent, from "some avg10=1.25 avg60=… …" and lines that do not matter here.
func parsePressure(text string) (float64, error) {
	first, _, _ := strings.Cut(text, "\n")
	rest, ok := strings.CutPrefix(first, "some avg10=")
	number, _, _ := strings.Cut(rest, " ")
	percent, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("memory pressure %q: not as the kernel writes it", first)
	}
	return percent, nil
}
