package kernel

import "strings"

// Param is one parameter of the kernel's command line.
type Param struct {
	Name   string
	Value  string // empty for a bare flag
	Reason string
}

func (p Param) String() string {
	if p.Value == "" {
		return p.Name
	}
	return p.Name + "=" + p.Value
}

// Choice is something that hardening advice asks for and that only some machines
// can bear, so whoever builds the image decides.
type Choice int

const (
	// NoSMT turns hardware threads off. Lists ask for it because siblings can
	// read each other's buffers on processors with MDS, L1TF and TAA; on the two
	// to four cores of an edge machine it takes half of the processors, while the
	// buffers are cleared at every kernel entry anyway. For machines whose pods
	// do not trust each other.
	NoSMT Choice = iota + 1

	// NoEarlyDMA has the EFI stub clear bus mastering on all PCI bridges before
	// the IOMMU is up. Some boards hang at ExitBootServices with it.
	NoEarlyDMA

	// AutoPTI splits the page tables only on processors with Meltdown's fault. It
	// is for development images, which run in QEMU without KVM: its processors
	// have no PCID, and each system call takes twelve times as long with pti=on
	// (43 instead of 3.7 µs), each page fault twice. On a machine, pti=on costs a
	// few percent and also hides the kernel's addresses from timing attacks.
	AutoPTI
)

// CommandLine is the hardening part of the command line; the image's builder adds
// the root, its verity table and the consoles. It is far below the kernel's limit
// of 2047 bytes.
func CommandLine(choices ...Choice) string {
	params := Hardening
	for _, c := range choices {
		params = c.apply(params)
	}
	words := make([]string, len(params))
	for i, p := range params {
		words[i] = p.String()
	}
	return strings.Join(words, " ")
}

func (c Choice) apply(params []Param) []Param {
	out := append([]Param(nil), params...)
	switch c {
	case NoSMT:
		set(out, "mitigations", "auto,nosmt")
		return append(out, Param{"nosmt", "", "hardware threads share buffers"})
	case NoEarlyDMA:
		return append(out, Param{"efi", "disable_early_pci_dma", "devices may not write before the IOMMU is up"})
	case AutoPTI:
		set(out, "pti", "auto")
		return out
	}
	panic("BUG: unknown choice of the kernel's command line")
}

func set(params []Param, name, value string) {
	for i := range params {
		if params[i].Name == name {
			params[i].Value = value
		}
	}
}

// Hardening says again on the signed command line what the configuration already
// has as its default: it can be read in /proc/cmdline, and a default that a later
// kernel changes does not change here. Parameters of things that are not in the
// kernel are not named, because what the kernel does not know it hands to PID 1 as
// environment. PID 1 finds spectre_v2, spectre_v2_user, spec_store_bypass_disable
// and tsx there all the same, because the kernel reads those before it knows names.
var Hardening = []Param{
	// Memory.
	{"slab_nomerge", "", "objects of different kinds never share a slab, so a use after free reaches its own kind only"},
	{"page_alloc.shuffle", "1", "free pages in an order that cannot be guessed"},
	{"init_on_alloc", "1", "nothing reads what the last owner left"},
	{"init_on_free", "1", "secrets leave memory when they are freed"},
	{"hardened_usercopy", "1", "copies to and from programs stay within their object"},
	{"randomize_kstack_offset", "1", "each system call begins at another stack offset"},
	{"rodata", "on", "code and constants cannot be written"},
	{"kfence.sample_interval", "100", "one allocation in 100 ms is guarded against overflow and use after free"},
	{"proc_mem.force_override", "never", "/proc/pid/mem does not write what the process itself may not write"},

	// Rights.
	{"lockdown", "confidentiality", "root can neither change nor read the running kernel"},
	{"bdev_allow_write_mounted", "0", "a mounted partition is not written past its filesystem; the whole disk still is (GPT)"},

	// Devices.
	{"intel_iommu", "on", "devices reach only the memory they were given"},
	{"amd_iommu", "force_isolation", "as intel_iommu, with no device let through unmapped"},
	{"iommu", "force", "use an IOMMU even where the platform would do without"},
	{"iommu.strict", "1", "a mapping ends when it is unmapped, not some time later"},
	{"iommu.passthrough", "0", "no device skips translation"},

	// The processor's faults, each named. A processor without the fault pays
	// nothing, except for pti.
	{"mitigations", "auto", "all mitigations; hardware threads stay on, see NoSMT"},
	{"pti", "on", "the kernel's page tables are not there while programs run"},
	{"spectre_v2", "auto", "branch target injection"},
	{"spectre_v2_user", "auto", "the same between programs that ask for it"},
	{"spectre_bhi", "on", "branch history injection"},
	{"spec_store_bypass_disable", "auto", "speculative store bypass"},
	{"l1tf", "flush", "the L1 cache is flushed before guests run"},
	{"mds", "full", "microarchitectural buffers are cleared"},
	{"tsx_async_abort", "full", "as mds"},
	{"tsx", "off", "transactional memory is used by attacks more than by programs"},
	{"srbds", "on", "RDRAND's results do not leak to other cores"},
	{"mmio_stale_data", "full", "as mds"},
	{"retbleed", "auto", "return instructions as indirect branches"},
	{"spec_rstack_overflow", "safe-ret", "AMD's return stack"},
	{"gather_data_sampling", "on", "AVX gather; on means microcode where there is some, and never turning AVX off"},
	{"reg_file_data_sampling", "on", "Atom's register files"},
	{"tsa", "on", "AMD's transient scheduler attacks"},
	{"indirect_target_selection", "on", "Intel's indirect branches in the lower half of a cache line"},
	{"vmscape", "ibpb", "guests and the programs that run them; no KVM here, named for completeness"},
}
