package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"testing"
)

func TestLineage(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := url.Parse("spiffe://example.org/a")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uris []*url.URL
		want []string
	}{
		{nil, []string{fmt.Sprintf("%032x", 7)}},
		{[]*url.URL{other}, []string{fmt.Sprintf("%032x", 7)}},
		{[]*url.URL{other, LineageURI([]string{"a", "b"})}, []string{"a", "b"}},
	} {
		template := &x509.Certificate{SerialNumber: big.NewInt(7), URIs: c.uris}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if got := Lineage(made); !slices.Equal(got, c.want) {
			t.Errorf("%v: lineage %q, want %q", c.uris, got, c.want)
		}
	}
}

// However long a line of admins is, its certificates stay small, and the first admins and
// the last stay in them.
func TestDescend(t *testing.T) {
	var l []string
	for n := range 100 {
		before := slices.Clone(l)
		next := Descend(l, fmt.Sprint(n))
		if !slices.Equal(l, before) {
			t.Fatal("it changes what it is given")
		}
		l = next
	}
	if len(l) != maxLineage || l[0] != "0" || l[7] != "7" || l[8] != "92" || l[15] != "99" {
		t.Errorf("lineage is %q", l)
	}
}
