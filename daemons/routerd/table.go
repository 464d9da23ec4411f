package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// route is one method and where it goes; conn is nil for those of the gateway itself.
type route struct {
	method ipc.Method
	role   auth.Role
	conn   ipc.Conn
}

// table holds the methods that can be called from outside, by path.
type table map[string]*route

// own are the gateway's own methods.
var own = map[string]auth.Role{
	"/grpc.health.v1.Health/Check":                                   auth.Role_ROLE_ANYONE,
	"/grpc.health.v1.Health/List":                                    auth.Role_ROLE_ANYONE,
	"/grpc.health.v1.Health/Watch":                                   auth.Role_ROLE_ANYONE,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      auth.Role_ROLE_READER,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": auth.Role_ROLE_READER,
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
		role, known := words.Parse[auth.Role](r.Role)
		if !ok || !known {
			return nil, fmt.Errorf("route %s: role %q or path cannot be", r.Path, r.Role)
		}
		if conns[r.Service] == nil {
			conns[r.Service] = connect(r.Service)
		}
		t[r.Path] = &route{
			method: ipc.Method{Service: service, Name: method, Idempotent: r.Idempotent, ClientStream: r.ClientStream, ServerStream: r.ServerStream},
			role:   role,
			conn:   conns[r.Service],
		}
	}
	for path, needed := range own {
		t[path] = &route{role: needed}
	}
	return t, nil
}
