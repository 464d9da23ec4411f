package sign

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
)

var (
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidIndirectData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidPEImageData   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}

	algSHA256 = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: asn1.NullRawValue}
	algRSA    = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}
)

// The structures below are PKCS #7 (RFC 2315) and "Windows Authenticode Portable
// Executable Signature Format", section by section.
type (
	indirectData struct { // SpcIndirectDataContent
		Data   typedValue
		Digest digestInfo
	}
	typedValue struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	digestInfo struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue // [0] explicit
	}
	signedData struct {
		Version      int
		Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
		Content      contentInfo
		Certificates asn1.RawValue // [0] implicit
		Signers      []signerInfo  `asn1:"set"`
	}
	signerInfo struct {
		Version    int
		Issuer     issuerAndSerial
		Digest     pkix.AlgorithmIdentifier
		Attributes asn1.RawValue // [0] implicit
		Encryption pkix.AlgorithmIdentifier
		Signature  []byte
	}
	issuerAndSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	attribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
)

// peImageData is SpcPeImageData with no flags and the file called "<<<Obsolete>>>",
// as the format prescribes.
var peImageData = append([]byte{0x30, 0x25, 0x03, 0x01, 0x00, 0xa0, 0x20, 0xa2, 0x1e, 0x80, 0x1c}, utf16("<<<Obsolete>>>")...)

// EFI returns the EFI program with a signature appended. It is an error if the
// program is not a PE32+ file or is already signed.
func EFI(program []byte, k Keys) ([]byte, error) {
	p, err := parsePE(program)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sig, err := authenticode(p.digest(), k)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return p.attach(sig), nil
}

// authenticode makes the PKCS #7 message that vouches for an image's digest.
func authenticode(digest [32]byte, k Keys) ([]byte, error) {
	content, err := asn1.Marshal(indirectData{
		typedValue{oidPEImageData, asn1.RawValue{FullBytes: peImageData}},
		digestInfo{algSHA256, digest[:]},
	})
	if err != nil {
		return nil, err
	}
	signer, err := signContent(content, k)
	if err != nil {
		return nil, err
	}
	inner, err := asn1.Marshal(signedData{
		Version:      1,
		Digests:      []pkix.AlgorithmIdentifier{algSHA256},
		Content:      contentInfo{oidIndirectData, tagged(content)},
		Certificates: tagged(k.Certificate.Raw),
		Signers:      []signerInfo{signer},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{oidSignedData, tagged(inner)})
}

// signContent signs the two attributes that PKCS #7 asks for: what the content is
// and its digest. The digest leaves the content's own tag and length out.
func signContent(content []byte, k Keys) (signerInfo, error) {
	var body asn1.RawValue
	if _, err := asn1.Unmarshal(content, &body); err != nil {
		return signerInfo{}, err
	}
	digest := sha256.Sum256(body.Bytes)
	attrs, err := marshalAttributes(digest[:])
	if err != nil {
		return signerInfo{}, err
	}
	// Signed is the plain SET; stored is the same under an implicit [0].
	set, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: attrs})
	if err != nil {
		return signerInfo{}, err
	}
	sum := sha256.Sum256(set)
	sig, err := k.Signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return signerInfo{}, err
	}
	return signerInfo{
		Version:    1,
		Issuer:     issuerAndSerial{asn1.RawValue{FullBytes: k.Certificate.RawIssuer}, k.Certificate.SerialNumber},
		Digest:     algSHA256,
		Attributes: tagged(attrs),
		Encryption: algRSA,
		Signature:  sig,
	}, nil
}

// marshalAttributes returns them in the order that DER wants of a SET: by their
// encoding, and the content type's is the shorter.
func marshalAttributes(digest []byte) ([]byte, error) {
	kind, err := asn1.Marshal(oidIndirectData)
	if err != nil {
		return nil, err
	}
	sum, err := asn1.Marshal(digest)
	if err != nil {
		return nil, err
	}
	first, err := asn1.Marshal(attribute{oidContentType, []asn1.RawValue{{FullBytes: kind}}})
	if err != nil {
		return nil, err
	}
	second, err := asn1.Marshal(attribute{oidMessageDigest, []asn1.RawValue{{FullBytes: sum}}})
	return append(first, second...), err
}

func tagged(b []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: b}
}

// utf16 is big-endian, of ASCII.
func utf16(s string) (b []byte) {
	for _, c := range []byte(s) {
		b = append(b, 0, c)
	}
	return b
}
