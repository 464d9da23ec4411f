package disk

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// File is one file of the EFI system partition.
type File struct {
	Name   string // from the partition's root, such as EFI/BOOT/BOOTX64.EFI
	Source string // on the host
}

// espVolume is the FAT's serial number: any, but always the same.
const espVolume = "da07d105"

// MakeESP writes an EFI system partition to the file out: FAT32 with clusters of one
// sector, the only ones with which 64 MiB are enough for a FAT32, holding files. All
// times on it are epoch, which FAT rounds to two seconds and begins in 1980.
func MakeESP(ctx context.Context, out string, size int64, files []File, epoch time.Time) error {
	files = sorted(files)
	if err := distinct(files); err != nil {
		return err
	}
	if err := create(out, size); err != nil {
		return err
	}
	env := []string{
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()), "TZ=UTC",
		"MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=0", "MTOOLS_LOWER_CASE=0",
	}
	err := run(ctx, env, "mkfs.vfat", "--invariant", "-F", "32", "-s", "1", "-S", fmt.Sprint(sectorSize),
		"-i", espVolume, "-n", "DACTYL-ESP", out)
	if err != nil {
		return err
	}
	for _, dir := range directories(files) {
		if err := run(ctx, env, "mmd", "-i", out, "::/"+dir); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := run(ctx, env, "mcopy", "-i", out, f.Source, "::/"+f.Name); err != nil {
			return fmt.Errorf("put %s on the EFI system partition: %w", f.Name, err)
		}
	}
	return nil
}

func sorted(files []File) []File {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files
}

// distinct refuses two files of one name; FAT does not tell cases apart.
func distinct(files []File) error {
	seen := map[string]bool{}
	for _, f := range files {
		name := strings.ToUpper(f.Name)
		if seen[name] {
			return fmt.Errorf("two files for %s on the EFI system partition", f.Name)
		}
		seen[name] = true
	}
	return nil
}

// directories returns every directory that the files need, parents first.
func directories(files []File) (dirs []string) {
	for _, f := range files {
		for dir := path.Dir(f.Name); dir != "."; dir = path.Dir(dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// create makes an empty file of a size, all of it a hole.
func create(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Close()
}
