//go:build byhand

package main

import "slices"

// This file is in no image. A benchmark measures how much sooner or later a node is
// Ready in Dactyl than if somebody starts its programs by hand: all at once, each with
// the flags that it cannot do without (internal/render/byhand.go), and again when it
// ends. What a program cannot even be started without stays: its keys, and the
// domain in which it lives.
func init() {
	for i := range specifications {
		s := &specifications[i]
		s.needs = slices.DeleteFunc(slices.Clone(s.needs), func(n need) bool { return n.name != "pods" })
	}
}
