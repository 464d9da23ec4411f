package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Ext4 describes an empty filesystem.
type Ext4 struct {
	Label   string
	UUID    GUID
	Size    int64 // bytes, at most 128 MiB: one block group
	Journal int64 // bytes, at most half of what is free; unlike the filesystem it cannot grow later
	// GrowTo is the size in bytes up to which the filesystem can be grown while
	// mounted with plain group descriptors; beyond, the kernel changes the layout
	// to meta_bg by itself. 0 reserves nothing.
	GrowTo int64
}

const (
	ext4Block = 4096
	// ext4Inodes is the number in an image's one block group. A filesystem keeps the
	// number per group when it grows, and a full group has 128 MiB: one inode for
	// 16 KiB, mke2fs's own default and enough for container images of small files.
	ext4Inodes = 8192
	// ext4Features are spelt out, because the defaults are the host's choice.
	// metadata_csum_seed lets a machine give itself a new UUID while mounted.
	ext4Features = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super," +
		"large_file,huge_file,dir_nlink,extra_isize,metadata_csum,metadata_csum_seed"
)

// ext4Config is an mke2fs.conf that decides nothing.
const ext4Config = `[defaults]
	base_features = none
[fs_types]
	ext4 = {
	}
	small = {
	}
`

// MakeExt4 writes an empty ext4 to the file out.
func MakeExt4(ctx context.Context, out string, fs Ext4, epoch time.Time) error {
	if err := create(out, fs.Size); err != nil {
		return err
	}
	// Without a configuration mke2fs would take the host's.
	conf := filepath.Join(filepath.Dir(out), "mke2fs.conf")
	if err := os.WriteFile(conf, []byte(ext4Config), 0o644); err != nil {
		return err
	}
	features, extended := ext4Features, fmt.Sprintf("hash_seed=%s,root_owner=0:0,lazy_itable_init=0,"+
		"lazy_journal_init=0,assume_storage_prezeroed=1,nodiscard", fs.UUID)
	if fs.GrowTo > 0 {
		features += ",resize_inode"
		extended += fmt.Sprintf(",resize=%d", fs.GrowTo/ext4Block)
	}
	env := []string{
		"MKE2FS_CONFIG=" + conf, "TZ=UTC", "MKE2FS_SYNC=0",
		fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", epoch.Unix()),
	}
	return run(ctx, env, "mke2fs", "-q", "-F", "-t", "ext4", "-b", fmt.Sprint(ext4Block), "-I", "256", "-m", "0",
		"-N", fmt.Sprint(ext4Inodes), "-J", fmt.Sprintf("size=%d", fs.Journal>>20), "-L", fs.Label,
		"-U", string(fs.UUID), "-O", features, "-E", extended, "-e", "remount-ro", out)
}
