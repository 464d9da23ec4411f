// Package footprint keeps a small, idle program small.
package footprint

import (
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// worthFreeing is the least that a program has allocated when it is worth collecting:
// that takes a millisecond or two, and what is wanted again costs a page fault. The
// runtime itself lets 2 MiB gather in the smallest heap.
const worthFreeing = 512 << 10

// Keeper keeps one program small. Its zero value begins at the program's start. Not for
// use by several goroutines.
type Keeper struct{ allocated uint64 }

// Shrink gives back to the kernel what is not in use, the garbage too once it is half of
// the heap. To be called by a program that is about to sleep.
func (k *Keeper) Shrink() {
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	if now.TotalAlloc-k.allocated >= max(worthFreeing, now.HeapInuse/2) {
		k.allocated = now.TotalAlloc
		runtime.GC() // what lies in a sync.Pool, as gRPC's buffers do, survives one collection
		debug.FreeOSMemory()
	}
	DropProgram()
}

// DropProgram gives the pages of the program itself back to the kernel, which
// are nothing but a cache of the image. The kernel maps those sixteen at a time,
// so after a start nearly the whole program is counted as the process's memory
// (4.2 MiB of a daemon that needs 1.4); what is still wanted comes back from the
// page cache without a read.
func DropProgram() {
	for _, s := range readOnlySegments() {
		unix.Syscall(unix.SYS_MADVISE, s.start, s.size, unix.MADV_DONTNEED)
	}
}

// segment is a range of memory.
type segment struct{ start, size uintptr }

// programHeader is Elf64_Phdr.
type programHeader struct {
	kind, flags              uint32
	offset, address, _       uint64
	fileSize, memSize, align uint64
}

// What of the auxiliary vector and of ELF is needed here.
const (
	auxHeaders      = 3 // AT_PHDR
	auxHeaderCount  = 5 // AT_PHNUM
	segmentLoad     = 1 // PT_LOAD
	segmentHeaders  = 6 // PT_PHDR
	segmentWritable = 2 // PF_W
)

// readOnlySegments returns where the running program's file is mapped without
// ever being written to, as the kernel told the program when it started it.
func readOnlySegments() []segment {
	var at unsafe.Pointer
	var count uintptr
	aux, _ := unix.Auxv()
	for _, a := range aux {
		switch a[0] {
		case auxHeaders:
			at = *(*unsafe.Pointer)(unsafe.Pointer(&a[1]))
		case auxHeaderCount:
			count = a[1]
		}
	}
	if at == nil {
		return nil
	}
	var out []segment
	var moved uintptr // by how much the program lies higher than it was linked for
	page := uintptr(unix.Getpagesize())
	for _, h := range unsafe.Slice((*programHeader)(at), count) {
		switch {
		case h.kind == segmentHeaders:
			moved = uintptr(at) - uintptr(h.address) // comes before any PT_LOAD
		case h.kind == segmentLoad && h.flags&segmentWritable == 0:
			start := (uintptr(h.address) + moved) &^ (page - 1)
			end := (uintptr(h.address) + moved + uintptr(h.fileSize)) &^ (page - 1) // a page shared with the next stays
			out = append(out, segment{start, end - start})
		}
	}
	return out
}
