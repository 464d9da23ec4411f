package main

import (
	"time"

	"github.com/dactyl-os/dactyl/storaged/internal/gpt"
)

// growDelay keeps the disk free while the other daemons' programs are read from it:
// growing at once made the API answer seconds later from a USB stick.
const growDelay = 10 * time.Second

// growChunk is how many bytes a filesystem grows by at once: one call of the kernel
// cannot be interrupted, and storaged must be able to end. A multiple of a block
// group's 128 MiB.
const growChunk = 64 << 30

// growth is a filesystem that is smaller than its partition.
type growth struct {
	volume    volume
	blockSize uint64
	from, to  uint64 // blocks
}

// growths lists them.
func growths(o observation) []growth {
	var list []growth
	if o.disk == nil {
		return nil
	}
	for _, spec := range volumes {
		m, p := o.mounted[spec.volume], o.disk.byLabel(spec.label)
		if p == nil || m.on != p.name || m.blockSize == 0 {
			continue
		}
		if to := p.len * gpt.SectorSize / m.blockSize; to > m.blocks {
			list = append(list, growth{spec.volume, m.blockSize, m.blocks, to})
		}
	}
	return list
}

// steps are the sizes, in blocks, by which it gets there.
func (g growth) steps() []uint64 {
	var list []uint64
	chunk := growChunk / g.blockSize
	for at := (g.from/chunk + 1) * chunk; at < g.to; at += chunk {
		list = append(list, at)
	}
	return append(list, g.to)
}
