package ipc

import (
	"context"
	"strings"

	"github.com/containerd/ttrpc"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// Origin is the client of the API on whose behalf the gateway makes a call. It is for
// records and logs: what a client may call is decided by the gateway, never by an Origin.
type Origin struct {
	Name    string // common name of its certificate
	Role    auth.Role
	Serial  string   // 32 hexadecimal digits
	Lineage []string // as trust.Lineage reads it from the certificate
}

// Keys of a request's metadata.
const (
	originName    = "dactyl-origin-name"
	originRole    = "dactyl-origin-role"
	originSerial  = "dactyl-origin-serial"
	originLineage = "dactyl-origin-lineage"
)

// WithOrigin returns a context whose calls carry o.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	md := ttrpc.MD{}
	for key, value := range map[string]string{originName: o.Name, originRole: words.Of(o.Role), originSerial: o.Serial, originLineage: strings.Join(o.Lineage, " ")} {
		if value != "" {
			md.Set(key, value)
		}
	}
	return ttrpc.WithMetadata(ctx, md)
}

// OriginOf returns what the call that a handler works on carries; the zero Origin for
// one that does not come from outside.
func OriginOf(ctx context.Context) Origin {
	get := func(key string) string { v, _ := ttrpc.GetMetadataValue(ctx, key); return v }
	role, _ := words.Parse[auth.Role](get(originRole))
	return Origin{Name: get(originName), Role: role, Serial: get(originSerial), Lineage: strings.Fields(get(originLineage))}
}
