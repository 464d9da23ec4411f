package trust

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// lineageURN begins the URI in a client certificate that holds its lineage.
const lineageURN = "dactyl:lineage:"

// Serial returns a certificate's serial number as Dactyl writes it: 32 hexadecimal digits.
func Serial(c *x509.Certificate) string { return fmt.Sprintf("%032x", c.SerialNumber) }

// Lineage returns by which certificates one was issued: serials, the first admin's first,
// and last that with which its series of renewals began. Removing one of these
// from a machine removes all that descends from it, renewals included.
// A certificate that names none began a series itself: it was issued by a claim, or by a
// trustd that recorded no lineage.
func Lineage(c *x509.Certificate) []string {
	for _, u := range c.URIs {
		if rest, ok := strings.CutPrefix(u.Opaque, lineageURN); ok && u.Scheme == "urn" {
			return strings.Split(rest, ":")
		}
	}
	return []string{Serial(c)}
}

// LineageURI returns the URI of which Lineage reads serials.
func LineageURI(serials []string) *url.URL {
	return &url.URL{Scheme: "urn", Opaque: lineageURN + strings.Join(serials, ":")}
}

// maxLineage is how many serials a lineage has at most: so many admins were each made by
// the one before. From then on those in the middle are left out, so that a certificate
// has a bounded size: the first are the ones worth removing, the last the ones in use.
const maxLineage = 16

// Descend returns the lineage of a certificate that is issued by one with lineage l.
func Descend(l []string, serial string) []string {
	out := append(slices.Clone(l), serial)
	if extra := len(out) - maxLineage; extra > 0 {
		out = slices.Delete(out, maxLineage/2, maxLineage/2+extra)
	}
	return out
}
