package trust

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"strings"
)

// A Code is the pairing code that an unclaimed machine shows on its console.
// Whoever has read it can do two things: know the machine by its CA, and prove
// to it that he stands in front of it.
//
// Each half has 60 bits. Someone in between who wants to pass for the machine
// needs a CA certificate whose SHA-256 begins with the same 60 bits. By it he
// gains a proof that is bound to that certificate, so it is worth nothing at the
// machine; to forge the machine's answer he must still find the other 60 bits
// before the client gives up.
type Code struct {
	Secret      Secret
	Fingerprint Fingerprint
}

// Secret is the half of a Code that is never sent: 60 bits.
type Secret uint64

// Fingerprint is the first 60 bits of the SHA-256 of the OS CA's DER.
type Fingerprint uint64

const (
	halfBits  = 60
	halfChars = halfBits / 5
	codeChars = 2 * halfChars

	// crockford leaves out I, L, O and U, which are read as 1, 1, 0 or as a word.
	crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)

// NewSecret makes a Secret of 8 random bytes.
func NewSecret(random [8]byte) Secret {
	return Secret(binary.BigEndian.Uint64(random[:]) >> (64 - halfBits))
}

// FingerprintOf returns the Fingerprint of a CA certificate's DER.
func FingerprintOf(authority []byte) Fingerprint {
	sum := sha256.Sum256(authority)
	return Fingerprint(binary.BigEndian.Uint64(sum[:]) >> (64 - halfBits))
}

// String writes the code as it is shown: XXXX-XXXX-XXXX-XXXX-XXXX-XXXX.
func (c Code) String() string {
	var b strings.Builder
	for i, half := range [2]uint64{uint64(c.Secret), uint64(c.Fingerprint)} {
		for shift := halfBits - 5; shift >= 0; shift -= 5 {
			if n := halfChars - shift/5 - 1; n%4 == 0 && i+n > 0 {
				b.WriteByte('-')
			}
			b.WriteByte(crockford[half>>shift&31])
		}
	}
	return b.String()
}

// ParseCode reads a code as people type it: in upper or lower case, with or
// without hyphens and spaces, O for 0, I and L for 1.
func ParseCode(text string) (Code, error) {
	var halves [2]uint64
	n := 0
	for _, r := range strings.ToUpper(text) {
		switch r {
		case '-', ' ', '\t', '\r', '\n':
			continue
		case 'O':
			r = '0'
		case 'I', 'L':
			r = '1'
		}
		digit := strings.IndexRune(crockford, r)
		if digit < 0 {
			return Code{}, fmt.Errorf("pairing code: %q cannot be in one: it has digits and letters without I, L, O and U", r)
		}
		if n < codeChars {
			halves[n/halfChars] = halves[n/halfChars]<<5 | uint64(digit)
		}
		n++
	}
	if n != codeChars {
		return Code{}, fmt.Errorf("pairing code: %d characters; it has %d, in %d groups of 4", n, codeChars, codeChars/4)
	}
	return Code{Secret(halves[0]), Fingerprint(halves[1])}, nil
}

// Matches says whether authority, the DER of the last certificate that the
// machine sent in the TLS handshake, is the CA that the code names. A client
// checks it before it sends a proof, and then that the CA signed the machine's
// own certificate.
func (c Code) Matches(authority []byte) bool { return c.Fingerprint == FingerprintOf(authority) }

// Proof returns ClaimRequest.proof for a CSR sent to a machine that showed
// authority in the TLS handshake; both are DER.
func Proof(s Secret, authority, csr []byte) []byte {
	return s.seal("dactyl claim v1\x00", authority, csr)
}

// Confirm returns ClaimResponse.confirm for the certificate and CA in it.
func Confirm(s Secret, certificate, authority []byte) []byte {
	return s.seal("dactyl claimed v1\x00", certificate, authority)
}

// Equal compares two proofs or confirmations in constant time.
func Equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// seal returns HMAC-SHA256 of purpose and the SHA-256 of both parts. The key is
// the secret as 8 bytes, big-endian.
func (s Secret) seal(purpose string, a, b []byte) []byte {
	key := binary.BigEndian.AppendUint64(nil, uint64(s))
	sumA, sumB := sha256.Sum256(a), sha256.Sum256(b)
	h := hmac.New(sha256.New, key)
	h.Write([]byte(purpose))
	h.Write(sumA[:])
	h.Write(sumB[:])
	return h.Sum(nil)
}
