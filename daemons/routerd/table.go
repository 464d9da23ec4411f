package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
)

// role is what a client's certificate carries as its organisation.
type role string

const (
	anyone   role = "anyone" // of a method only
	reader   role = "reader"
	operator role = "operator"
	admin    role = "admin"
)

// ranks lists the roles: a later one may do all that an earlier one may.
var ranks = []role{anyone, reader, operator, admin}

// rank is a role's place in ranks.
var rank = func() map[role]int {
	m := map[role]int{}
	for i, r := range ranks {
		m[r] = i
	}
	return m
}()

// route is one method and where it goes; conn is nil for those of the gateway itself.
type route struct {
	method ipc.Method
	role   role
	conn   ipc.Conn
}

// table holds the methods that can be called from outside, by path.
type table map[string]*route

// own are the gateway's own methods.
var own = map[string]role{
	"/grpc.health.v1.Health/Check":                                   anyone,
	"/grpc.health.v1.Health/List":                                    anyone,
	"/grpc.health.v1.Health/Watch":                                   anyone,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      reader,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": reader,
}

func readTable(path string, connect func(service string) ipc.Conn) (table, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var routes abi.Routes
	if err := json.Unmarshal(b, &routes); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return newTable(routes, connect)
}

// newTable connects to each service once, when first called.
func newTable(routes abi.Routes, connect func(service string) ipc.Conn) (table, error) {
	t := table{}
	conns := map[string]ipc.Conn{}
	for _, r := range routes.Routes {
		service, method, ok := strings.Cut(strings.TrimPrefix(r.Path, "/"), "/")
		if _, known := rank[role(r.Role)]; !ok || !known {
			return nil, fmt.Errorf("route %s: role %q or path cannot be", r.Path, r.Role)
		}
		if conns[r.Service] == nil {
			conns[r.Service] = connect(r.Service)
		}
		t[r.Path] = &route{
			method: ipc.Method{Service: service, Name: method, Idempotent: r.Idempotent, ClientStream: r.ClientStream, ServerStream: r.ServerStream},
			role:   role(r.Role),
			conn:   conns[r.Service],
		}
	}
	for path, needed := range own {
		t[path] = &route{role: needed}
	}
	return t, nil
}
