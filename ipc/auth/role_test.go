package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
)

func TestRoleOf(t *testing.T) {
	for _, c := range []struct {
		organizations []string
		want          Role
	}{
		{[]string{"reader"}, Role_ROLE_READER},
		{[]string{"operator"}, Role_ROLE_OPERATOR},
		{[]string{"admin"}, Role_ROLE_ADMIN},
		{nil, 0},
		{[]string{""}, 0},
		{[]string{"anyone"}, 0},
		{[]string{"unspecified"}, 0},
		{[]string{"Admin"}, 0},
		{[]string{"ROLE_ADMIN"}, 0},
		{[]string{"4"}, 0},
		{[]string{"root"}, 0},
		{[]string{"admin", "admin"}, 0},
		{[]string{"reader", "admin"}, 0},
	} {
		if got := RoleOf(&x509.Certificate{Subject: pkix.Name{Organization: c.organizations}}); got != c.want {
			t.Errorf("%q is %v, want %v", c.organizations, got, c.want)
		}
	}
}

func TestIncludes(t *testing.T) {
	const later = Role(5)
	may := map[Role][]Role{ // by what the client has, what it may call
		Role_ROLE_UNSPECIFIED: {Role_ROLE_ANYONE},
		Role_ROLE_ANYONE:      {Role_ROLE_ANYONE},
		Role_ROLE_READER:      {Role_ROLE_ANYONE, Role_ROLE_READER},
		Role_ROLE_OPERATOR:    {Role_ROLE_ANYONE, Role_ROLE_READER, Role_ROLE_OPERATOR},
		Role_ROLE_ADMIN:       {Role_ROLE_ANYONE, Role_ROLE_READER, Role_ROLE_OPERATOR, Role_ROLE_ADMIN},
		later:                 {Role_ROLE_ANYONE},
		-1:                    {Role_ROLE_ANYONE},
	}
	for has, all := range may {
		allowed := map[Role]bool{}
		for _, needed := range all {
			allowed[needed] = true
		}
		for needed := Role(-1); needed <= later; needed++ {
			if got := has.Includes(needed); got != allowed[needed] {
				t.Errorf("a client with %v may do what takes %v: %v", has, needed, got)
			}
		}
	}
}
