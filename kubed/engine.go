package main

// state is how far Kubernetes is on this machine.
type state int

// unconfigured: the machine has no part in a cluster.
const unconfigured state = iota

// view is what kubed tells of a state.
type view struct {
	configured bool
	message    string
}

var statuses = map[state]view{
	unconfigured: {configured: false, message: "no cluster configured"},
}
