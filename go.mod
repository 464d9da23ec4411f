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
	github.com/google/nftables v0.3.0 // networkd: the packet filter's rules, written without nft
	github.com/insomniacslk/dhcp v0.0.0-20260901064844-234b97448fae // networkd: encodes and decodes DHCPv4 messages
	github.com/landlock-lsm/go-landlock v0.11.0 // kit: Landlock on all threads, falling back by ABI
	github.com/mdlayher/netlink v1.11.2 // networkd: links, addresses, routes; larger libraries cannot mark an address's origin (IFA_PROTO)
	github.com/mdlayher/socket v0.6.0 // networkd: its packet socket in Go's poller
	github.com/pelletier/go-toml/v2 v2.4.3 // buildkit: daemon.toml and image.toml, strictly, with line and column
	github.com/rogpeppe/go-internal v1.16.0 // tests of ctl: scripts that run the command
	github.com/schollz/progressbar/v3 v3.19.1 // ctl: progress of flashing and uploads
	github.com/sirupsen/logrus v1.9.4 // kit: ttrpc logs through it, and so its lines get into the daemon's log
	github.com/spdx/tools-golang v0.5.5 // buildkit: bills of materials, and its tests read them
	github.com/spf13/cobra v1.10.2 // ctl: commands, help, shell completion
	github.com/spf13/pflag v1.0.10 // ctl: cobra's flags
	go.etcd.io/bbolt v1.4.3 // etcdd: looks for damage in the database's file
	go.etcd.io/etcd/api/v3 v3.6.16 // etcdd: etcd's messages
	go.etcd.io/etcd/client/pkg/v3 v3.6.16 // etcdd: the types of etcd's configuration
	go.etcd.io/etcd/client/v3 v3.6.16 // tests and figures of etcdd: etcd's own client
	go.etcd.io/etcd/etcdutl/v3 v3.6.16 // etcdd: makes a member of a copy of the database
	go.etcd.io/etcd/server/v3 v3.6.16 // etcdd: the database of Kubernetes
	go.etcd.io/raft/v3 v3.6.0 // etcdd: the entries of the database's log
	go.uber.org/zap v1.27.0 // etcdd: etcd logs through it, and so its lines get into the daemon's log
	go.yaml.in/yaml/v3 v3.0.6 // configd and ctl: YAML with the line and column of every value
	golang.org/x/net v0.62.0 // kit: assembles seccomp's BPF without cgo; networkd: the filter of its packet socket
	golang.org/x/sys v0.49.0 // init, kit, daemons: system calls
	golang.org/x/term v0.47.0 // ctl: asks at a terminal; buildkit/progress: draws on one
	google.golang.org/grpc v1.85.0 // routerd and ctl: the API; status codes everywhere
	google.golang.org/protobuf v1.36.12 // ipc: messages, and what the gateway knows of services
	k8s.io/cri-api v0.36.3 // tests of podd: its part of this interface is compared with the whole, which the kubelet has in this version
)

require (
	github.com/anchore/go-struct-converter v0.0.0-20221118182256-c68fdcfa2092 // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/cenkalti/backoff/v5 v5.0.3 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/containerd/log v0.1.0 // indirect
	github.com/coreos/go-semver v0.3.1 // indirect
	github.com/coreos/go-systemd/v22 v22.5.0 // indirect
	github.com/dustin/go-humanize v1.0.1 // indirect
	github.com/elliotwutingfeng/asciiset v0.0.0-20260129054604-cfde2086bc57 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/gogo/protobuf v1.3.2 // indirect
	github.com/golang-jwt/jwt/v5 v5.2.2 // indirect
	github.com/golang/groupcache v0.0.0-20210331224755-41bb18bfe9da // indirect
	github.com/golang/protobuf v1.5.4 // indirect
	github.com/google/btree v1.1.3 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/gorilla/websocket v1.5.3 // indirect
	github.com/grpc-ecosystem/go-grpc-middleware v1.3.0 // indirect
	github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus v1.0.1 // indirect
	github.com/grpc-ecosystem/go-grpc-middleware/v2 v2.1.0 // indirect
	github.com/grpc-ecosystem/grpc-gateway/v2 v2.29.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/jonboulle/clockwork v0.5.0 // indirect
	github.com/klauspost/compress v1.18.7 // indirect
	github.com/mattn/go-runewidth v0.0.16 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/olekukonko/tablewriter v0.0.5 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	github.com/pierrec/lz4/v4 v4.1.26 // indirect
	github.com/prometheus/client_golang v1.20.5 // indirect
	github.com/prometheus/client_model v0.6.1 // indirect
	github.com/prometheus/common v0.62.0 // indirect
	github.com/prometheus/procfs v0.15.1 // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/soheilhy/cmux v0.1.5 // indirect
	github.com/tmc/grpc-websocket-proxy v0.0.0-20201229170055-e5319fda7802 // indirect
	github.com/u-root/uio v0.0.0-20240224005618-d2acac8f3701 // indirect
	github.com/xiang90/probing v0.0.0-20190116061207-43a291ad63a2 // indirect
	go.etcd.io/etcd/pkg/v3 v3.6.16 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc v0.59.0 // indirect
	go.opentelemetry.io/otel v1.45.0 // indirect
	go.opentelemetry.io/otel/exporters/otlp/otlptrace v1.45.0 // indirect
	go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc v1.45.0 // indirect
	go.opentelemetry.io/otel/metric v1.45.0 // indirect
	go.opentelemetry.io/otel/sdk v1.45.0 // indirect
	go.opentelemetry.io/otel/trace v1.45.0 // indirect
	go.opentelemetry.io/proto/otlp v1.11.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/time v0.9.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	gopkg.in/natefinch/lumberjack.v2 v2.2.1 // indirect
	kernel.org/pub/linux/libs/security/libcap/psx v1.2.77 // indirect
	sigs.k8s.io/json v0.0.0-20211020170558-c049b76a60c6 // indirect
	sigs.k8s.io/yaml v1.4.0 // indirect
)
