package auth

import (
	"crypto/x509"

	"github.com/dactyl-os/dactyl/ipc/words"
)

// RoleOf returns the role that a client certificate carries: the word for it is its one
// organization. It is ROLE_UNSPECIFIED, which has no rights, for a certificate that
// carries another word, none or several. No certificate can carry ROLE_ANYONE.
func RoleOf(c *x509.Certificate) Role {
	if len(c.Subject.Organization) != 1 {
		return Role_ROLE_UNSPECIFIED
	}
	r, _ := words.Parse[Role](c.Subject.Organization[0])
	if !r.Issuable() {
		return Role_ROLE_UNSPECIFIED
	}
	return r
}

// Issuable says that a client certificate can carry r.
func (r Role) Issuable() bool {
	return r == Role_ROLE_READER || r == Role_ROLE_OPERATOR || r == Role_ROLE_ADMIN
}

// Includes says that a client that has r may do what takes the role needed. No method
// takes ROLE_UNSPECIFIED, and a role of a later version has no rights.
func (r Role) Includes(needed Role) bool {
	switch needed {
	case Role_ROLE_ANYONE:
		return true
	case Role_ROLE_READER, Role_ROLE_OPERATOR, Role_ROLE_ADMIN:
		return r.Issuable() && r >= needed
	}
	return false
}
