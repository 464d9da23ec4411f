package trust

import (
	"encoding/hex"
	"strings"
	"testing"
)

func TestCodeSurvivesTyping(t *testing.T) {
	c := Code{NewSecret([8]byte{0x00, 0x44, 0x32, 0x14, 0xc7, 0x42, 0x54, 0xb6}), FingerprintOf([]byte("a CA"))}
	shown := c.String()
	if len(shown) != 29 || strings.Count(shown, "-") != 5 || !strings.HasPrefix(shown, "0123-4567-89AB-") {
		t.Fatalf("code is %q", shown)
	}
	for _, typed := range []string{
		shown,
		strings.ToLower(shown),
		strings.ReplaceAll(shown, "-", ""),
		" " + strings.ReplaceAll(shown, "-", " - ") + "\r\n",
		strings.Replace(strings.Replace(shown, "0", "o", 1), "1", "l", 1),
		strings.Replace(strings.Replace(shown, "0", "O", 1), "1", "I", 1),
	} {
		got, err := ParseCode(typed)
		if err != nil || got != c {
			t.Errorf("%q read as %v, %v", typed, got, err)
		}
	}
	for _, wrong := range []string{"", shown[1:], shown + "0", strings.Replace(shown, "0", "U", 1), strings.Replace(shown, "0", "é", 1)} {
		if got, err := ParseCode(wrong); err == nil {
			t.Errorf("%q read as %v", wrong, got)
		}
	}
}

func TestCodeNamesOneAuthority(t *testing.T) {
	c := Code{1, FingerprintOf([]byte("a CA"))}
	if !c.Matches([]byte("a CA")) || c.Matches([]byte("another CA")) {
		t.Error("fingerprint does not tell two CAs apart")
	}
}

// The bytes on the wire are a contract with every dactyl command in the field:
// these were computed by hand with openssl.
func TestProofOnTheWire(t *testing.T) {
	const s = Secret(0x00443214c74254b)
	for _, c := range []struct {
		name, want string
		got        []byte
	}{
		{"proof", "14f746ae134aafcf1286d795cace246aaf7376bd1068a2579eb64b19234c2363", Proof(s, []byte("authority"), []byte("csr"))},
		{"confirm", "3c0735b3d021abd71ee64ae9fbab5a3cc3b20335ac3f480fbf6f2ef27e38a6be", Confirm(s, []byte("certificate"), []byte("authority"))},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s is %s, want %s", c.name, got, c.want)
		}
	}
	if Equal(Proof(s, nil, nil), Proof(s+1, nil, nil)) || !Equal(Proof(s, nil, nil), Proof(s, nil, nil)) {
		t.Error("proofs compare wrongly")
	}
}
