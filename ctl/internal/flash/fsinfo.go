package flash

import (
	"encoding/binary"
	"fmt"
)

// Offsets in a FAT32's boot sector and FSInfo sector, from Microsoft's "FAT:
// General Overview of On-Disk Format", version 1.03.
const (
	bootSectorBytes       = 11
	bootSectorsPerCluster = 13
	bootReservedSectors   = 14
	bootFATs              = 16
	bootSectors           = 32
	bootSectorsPerFAT     = 36
	bootInfoSector        = 48
	bootBackup            = 50
	infoFreeClusters      = 488

	firstCluster = 2          // entries 0 and 1 of the FAT are no clusters
	clusterMask  = 0x0fffffff // the four bits above are reserved
)

// countFree writes the number of free clusters, which the FAT32 library leaves
// as it was, so that the filesystem is without fault.
func (t *Target) countFree(esp partition) error {
	boot := make([]byte, sectorSize)
	if _, err := t.file.ReadAt(boot, esp.start); err != nil {
		return fmt.Errorf("read boot sector: %w", err)
	}
	le := binary.LittleEndian
	sector := int64(le.Uint16(boot[bootSectorBytes:]))
	reserved, perFAT := int64(le.Uint16(boot[bootReservedSectors:])), int64(le.Uint32(boot[bootSectorsPerFAT:]))
	data := int64(le.Uint32(boot[bootSectors:])) - reserved - int64(boot[bootFATs])*perFAT
	clusters := data / int64(boot[bootSectorsPerCluster])

	fat := make([]byte, perFAT*sector)
	if _, err := t.file.ReadAt(fat, esp.start+reserved*sector); err != nil {
		return fmt.Errorf("read FAT: %w", err)
	}
	free := uint32(0)
	for c := int64(firstCluster); c < clusters+firstCluster && (c+1)*4 <= int64(len(fat)); c++ {
		if le.Uint32(fat[c*4:])&clusterMask == 0 {
			free++
		}
	}
	info := int64(le.Uint16(boot[bootInfoSector:]))
	for _, at := range []int64{info, int64(le.Uint16(boot[bootBackup:])) + info} {
		if _, err := t.file.WriteAt(le.AppendUint32(nil, free), esp.start+at*sector+infoFreeClusters); err != nil {
			return fmt.Errorf("write FSInfo: %w", err)
		}
	}
	return nil
}
