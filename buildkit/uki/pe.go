package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	peOffsetAt       = 0x3c
	sectionCountAt   = 6  // from the PE signature
	symbolsAt        = 12 // from the PE signature: where the symbols are and how many
	optionalHeaderAt = 24 // from the PE signature
	initializedAt    = optionalHeaderAt + 8
	sizeOfImageAt    = optionalHeaderAt + 56
	checksumAt       = optionalHeaderAt + 64
	sectionHeader    = 40

	readableData = pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ

	// pageSize aligns the sections in memory, beyond the 512 bytes that the stub's
	// header asks for: firmware that protects memory does so by pages.
	pageSize = 4096
)

type section struct {
	name string // at most 8 bytes
	data []byte
}

// program is a PE file that grows at its end.
type program struct {
	b         []byte
	header    int // of the PE signature
	headerEnd int // first section's data; the section table must end before it
	fileAlign int
	sections  int
	table     int    // where the section table starts
	next      uint32 // first free address in memory
}

func parse(b []byte) (*program, error) {
	f, err := pe.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	opt, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
		return nil, errors.New("not a 64-bit x86 program")
	}
	if opt.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY].Size != 0 {
		return nil, errors.New("already signed")
	}
	p := &program{
		headerEnd: int(opt.SizeOfHeaders), fileAlign: int(opt.FileAlignment),
		header: int(binary.LittleEndian.Uint32(b[peOffsetAt:])), sections: len(f.Sections),
	}
	p.table = p.header + optionalHeaderAt + int(f.SizeOfOptionalHeader)
	var end uint32
	for _, s := range f.Sections {
		p.next = max(p.next, s.VirtualAddress+max(s.VirtualSize, s.Size))
		end = max(end, s.Offset+s.Size)
	}
	p.b = bytes.Clone(b[:end])
	p.dropSymbols()
	return p, nil
}

// dropSymbols makes the header forget the symbol table, which lay after the sections.
func (p *program) dropSymbols() {
	clear(p.b[p.header+symbolsAt : p.header+symbolsAt+8])
}

// append adds a section after all others, in the file and in memory.
func (p *program) append(s section) error {
	at := p.table + p.sections*sectionHeader
	if at+sectionHeader > p.headerEnd {
		return fmt.Errorf("no room for another section header in the %d bytes of headers", p.headerEnd)
	}
	p.pad()
	header := pe.SectionHeader32{
		VirtualSize:      uint32(len(s.data)),
		VirtualAddress:   alignUp(p.next, pageSize),
		PointerToRawData: uint32(len(p.b)),
		Characteristics:  readableData,
	}
	copy(header.Name[:], s.name)
	p.b = append(p.b, s.data...)
	p.pad()
	header.SizeOfRawData = uint32(len(p.b)) - header.PointerToRawData
	if _, err := binary.Encode(p.b[at:], binary.LittleEndian, header); err != nil {
		return err
	}
	p.sections++
	p.next = header.VirtualAddress + header.SizeOfRawData
	p.count(header.SizeOfRawData)
	return nil
}

// count brings the header's totals up to date. The checksum is set when the image
// is signed; 0 says that there is none.
func (p *program) count(added uint32) {
	le, h := binary.LittleEndian, p.b[p.header:]
	le.PutUint16(h[sectionCountAt:], uint16(p.sections))
	le.PutUint32(h[initializedAt:], le.Uint32(h[initializedAt:])+added)
	le.PutUint32(h[sizeOfImageAt:], alignUp(p.next, pageSize))
	le.PutUint32(h[checksumAt:], 0)
}

func (p *program) pad() {
	p.b = append(p.b, make([]byte, int(alignUp(uint32(len(p.b)), uint32(p.fileAlign)))-len(p.b))...)
}

func alignUp(n, to uint32) uint32 { return (n + to - 1) / to * to }
