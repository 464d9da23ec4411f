package verity

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// image makes a file of n blocks with its tree appended.
func image(t *testing.T, n int) (string, Tree) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	b := make([]byte, n*BlockSize)
	src := rand.NewChaCha8([32]byte{byte(n)})
	src.Read(b)
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := Append(name)
	if err != nil {
		t.Fatal(err)
	}
	return name, tree
}

func veritysetup(name string, t Tree) ([]byte, error) {
	return exec.Command("/usr/sbin/veritysetup", "verify", name, name,
		fmt.Sprintf("%x", t.RootHash), fmt.Sprintf("--hash-offset=%d", t.HashOffset())).CombinedOutput()
}

// One block, one full hash block, and trees of two and three levels.
func TestVeritysetupAccepts(t *testing.T) {
	for _, n := range []int{1, 2, 128, 129, 16384, 16385} {
		name, tree := image(t, n)
		if out, err := veritysetup(name, tree); err != nil {
			t.Errorf("%d blocks: %v: %s", n, err, out)
		}
	}
}

func TestOneFlippedByteIsRefused(t *testing.T) {
	name, tree := image(t, 300)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(whole)) != tree.Size {
		t.Errorf("%d bytes, Size says %d", len(whole), tree.Size)
	}
	data, hashes := tree.HashOffset()/2, tree.HashOffset()+BlockSize+7
	for _, at := range []int64{0, data, hashes} {
		spoiled := bytes.Clone(whole)
		spoiled[at] ^= 1
		if err := os.WriteFile(name, spoiled, 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := veritysetup(name, tree); err == nil {
			t.Errorf("byte %d flipped and still verified: %s", at, out)
		}
	}
}

func TestTable(t *testing.T) {
	tree := Tree{DataBlocks: 3, RootHash: [32]byte{0xab, 0xcd}, Salt: [32]byte{0xff}}
	want := "0 24 verity 1 PARTUUID=x PARTUUID=x 4096 4096 3 4 sha256 " +
		"abcd000000000000000000000000000000000000000000000000000000000000 " +
		"ff00000000000000000000000000000000000000000000000000000000000000"
	if got := tree.Table("PARTUUID=x"); got != want {
		t.Errorf("table\n%s, want\n%s", got, want)
	}
	if got := tree.PartUUID(); got != "abcd0000-0000-0000-0000-000000000000" {
		t.Errorf("PARTUUID %s", got)
	}
}

func TestRefusesHalfABlock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, make([]byte, BlockSize+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(name); err == nil {
		t.Error("an image of one block and a byte was accepted")
	}
}
