package flash

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// ConfigName is where a machine looks for its YAML: the top of its EFI system
// partition.
const ConfigName = "cluster.yaml"

// partition is a range of a disk.
type partition struct{ start, size int64 }

// HasESP returns an error if the image has no EFI system partition.
func HasESP(image *os.File) error {
	_, err := findESP(image)
	return err
}

func findESP(f *os.File) (partition, error) {
	table, err := gpt.Read(file.New(f, true), sectorSize, sectorSize)
	if err != nil {
		return partition{}, fmt.Errorf("read the partition table of %s: %w", f.Name(), err)
	}
	for _, p := range table.Partitions {
		if strings.EqualFold(string(p.Type), string(gpt.EFISystemPartition)) {
			return partition{int64(p.Start) * sectorSize, int64(p.End-p.Start+1) * sectorSize}, nil
		}
	}
	return partition{}, fmt.Errorf("%s has no EFI system partition", f.Name())
}

// AddConfig puts the machine's YAML on the EFI system partition, in place of one
// that is there, and reads it back.
func (t *Target) AddConfig(yaml []byte) error {
	esp, err := findESP(t.file)
	if err != nil {
		return err
	}
	if err := t.putConfig(esp, yaml); err != nil {
		return fmt.Errorf("put %s on the EFI system partition: %w", ConfigName, err)
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", t.Path, err)
	}
	if err := t.forget(); err != nil {
		return err
	}
	got, err := t.readConfig(esp)
	if err != nil {
		return fmt.Errorf("read %s back: %w", ConfigName, err)
	}
	if !bytes.Equal(got, yaml) {
		return &Different{t.Path, esp.start}
	}
	return nil
}

func (t *Target) putConfig(esp partition, yaml []byte) error {
	fat, err := fat32.Read(file.New(t.file, false), esp.size, esp.start, sectorSize)
	if err != nil {
		return err
	}
	out, err := fat.OpenFile("/"+ConfigName, os.O_CREATE|os.O_TRUNC|os.O_RDWR)
	if err != nil {
		return err
	}
	if _, err := out.Write(yaml); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return t.countFree(esp)
}

func (t *Target) readConfig(esp partition) ([]byte, error) {
	fat, err := fat32.Read(file.New(t.file, true), esp.size, esp.start, sectorSize)
	if err != nil {
		return nil, err
	}
	in, err := fat.OpenFile("/"+ConfigName, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}
