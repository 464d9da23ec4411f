package main

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

// A daemon learns by whose certificate a call is made, from the certificate alone: what the
// client says of itself in the call's metadata is not passed on.
func TestOrigin(t *testing.T) {
	f := start(t)
	c := f.dial(f.ca.client("ada", []string{"admin"}, func(c *x509.Certificate) { c.URIs = []*url.URL{trust.LineageURI([]string{"aa", "bb"})} }))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "dactyl-origin-name", "eve", "dactyl-origin-serial", "ff", "dactyl-origin-lineage", "ff")
	if err := c.Invoke(ctx, listLinks, &network.ListLinksRequest{}, new(network.ListLinksResponse)); err != nil {
		t.Fatal(err)
	}
	got := f.network.origin.Load()
	if got == nil || got.Name != "ada" || got.Role != auth.Role_ROLE_ADMIN || got.Serial != fmt.Sprintf("%032x", 2) || !slices.Equal(got.Lineage, []string{"aa", "bb"}) {
		t.Errorf("the daemon was told of %+v", got)
	}
}
