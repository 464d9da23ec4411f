package main

import (
	"time"

	"github.com/dactyl-os/dactyl/ipc/network"
)

func linkTable(r *network.ListLinksResponse) table {
	t := table{header: []string{"INDEX", "NAME", "KIND", "UP", "CARRIER", "MAC", "MTU", "DRIVER", "RECEIVED", "SENT"}}
	for _, l := range r.Links {
		t.add(decimal(l.Index), l.Name, l.Kind, yes(l.Up), yes(l.Carrier), l.Mac, decimal(l.MtuBytes), l.Driver, size(l.RxBytes), size(l.TxBytes))
	}
	return t
}

func addressTable(r *network.ListAddressesResponse) table {
	t := table{header: []string{"LINK", "ADDRESS", "SCOPE", "ORIGIN", "VALID"}}
	for _, a := range r.Addresses {
		valid := "forever"
		if a.ValidS > 0 {
			valid = span(time.Duration(a.ValidS) * time.Second)
		}
		t.add(a.Link, a.Address, a.Scope, a.Origin, valid)
	}
	return t
}

func routeTable(r *network.ListRoutesResponse) table {
	t := table{header: []string{"DESTINATION", "GATEWAY", "LINK", "SOURCE", "METRIC", "ORIGIN"}}
	for _, r := range r.Routes {
		t.add(r.Destination, r.Gateway, r.Link, r.Source, decimal(r.Metric), r.Origin)
	}
	return t
}

func resolverTable(r *network.ListResolversResponse) table {
	t := table{header: []string{"ADDRESS"}}
	for _, a := range r.Addresses {
		t.add(a)
	}
	return t
}

func timeServerTable(r *network.ListTimeServersResponse) table {
	t := table{header: []string{"ADDRESS"}}
	for _, a := range r.Addresses {
		t.add(a)
	}
	return t
}
