module github.com/dactyl-os/dactyl

go 1.26.8

require (
	github.com/beevik/ntp v1.6.0 // timed: NTP with kernel timestamps and checks of what servers say
	github.com/bufbuild/protocompile v0.14.1 // buildkit: compiles .proto without protoc
	github.com/containerd/containerd/api v1.11.1 // podd: images, their layers and leases, as the image's containerd serves them
	github.com/containerd/go-dmverity v0.1.0 // buildkit: makes the verity tree that the kernel checks the root against
	github.com/containerd/ttrpc v1.2.10 // ipc: the protocol between daemons, small enough for twelve programs
	github.com/diskfs/go-diskfs v1.9.4 // ctl: puts cluster.yaml on a flashed disk's ESP, where no mount is at hand
	github.com/distribution/reference v0.6.0 // podd: short names of images become full ones exactly as the kubelet's do
	github.com/google/licensecheck v0.3.1 // buildkit: tells the licences of what the image links
	github.com/insomniacslk/dhcp v0.0.0-20260901064844-234b97448fae // networkd: encodes and decodes DHCPv4 messages
	github.com/landlock-lsm/go-landlock v0.11.0 // kit: Landlock on all threads, falling back by ABI
	github.com/mdlayher/netlink v1.11.2 // networkd: links, addresses, routes; larger libraries cannot mark an address's origin (IFA_PROTO)
	github.com/mdlayher/socket v0.6.0 // networkd: its packet socket in Go's poller
	github.com/pelletier/go-toml/v2 v2.4.3 // buildkit: daemon.toml and image.toml, strictly, with line and column
	github.com/rogpeppe/go-internal v1.16.0 // tests of ctl: scripts that run the command
	github.com/schollz/progressbar/v3 v3.19.1 // ctl: progress of flashing and uploads
	github.com/sirupsen/logrus v1.9.4 // kit: ttrpc logs through it, and so its lines get into the daemon's log
	github.com/spf13/cobra v1.10.2 // ctl: commands, help, shell completion
	github.com/spf13/pflag v1.0.9 // ctl: cobra's flags
	go.yaml.in/yaml/v3 v3.0.6 // configd and ctl: YAML with the line and column of every value
	golang.org/x/net v0.62.0 // kit: assembles seccomp's BPF without cgo; networkd: the filter of its packet socket
	golang.org/x/sys v0.49.0 // init, kit, daemons: system calls
	golang.org/x/term v0.47.0 // ctl: asks at a terminal
	google.golang.org/grpc v1.85.0 // routerd and ctl: the API; status codes everywhere
	google.golang.org/protobuf v1.36.12 // ipc: messages, and what the gateway knows of services
	k8s.io/cri-api v0.36.3 // podd: pods and images as the kubelet sees them; the version that the kubelet has
)

require (
	github.com/containerd/log v0.1.0 // indirect
	github.com/elliotwutingfeng/asciiset v0.0.0-20260129054604-cfde2086bc57 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	github.com/pierrec/lz4/v4 v4.1.26 // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/u-root/uio v0.0.0-20240224005618-d2acac8f3701 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	kernel.org/pub/linux/libs/security/libcap/psx v1.2.77 // indirect
)
