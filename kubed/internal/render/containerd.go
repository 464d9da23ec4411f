package render

import "fmt"

// pauseImage is the image that keeps a pod's namespaces; podd imports it from
// the system's image. Nobody can own a name under .invalid.
const pauseImage = "dactyl.invalid/pause:1"

// poddGroup is podd's group: besides root, it alone may use containerd's socket.
const poddGroup = 115

func containerd(n Node) *draft {
	d := newDraft("containerd", domain)
	d.Args = []string{"--config", d.file("containerd.toml", containerdConfig)}
	if n.Registries.Proxy != "" {
		d.Args = append(d.Args, "--environment", d.file("proxy.env", proxyEnvironment(n)))
	}
	d.registries(n.Registries)
	d.live("cni/10-dactyl.conflist", asJSON(podNetwork(n)))
	return d
}

// containerdConfig is the same on every machine.
var containerdConfig = fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
# Without the kubelet's interface it is of no use: better that it fails.
required_plugins = ["io.containerd.grpc.v1.cri"]

[grpc]
  address = "/run/containerd/containerd.sock"
  gid = %d

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  # An image that is there is not pulled again, even if a power cut left its files empty.
  image_pull_with_sync_fs = true
  use_local_image_pull = true
  stats_collect_period = 30
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = %q
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = %q

[plugins."io.containerd.cri.v1.runtime"]
  enable_selinux = false
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  # There is no /var/run in the domain.
  netns_mounts_under_state_dir = true
  # The kernel is to end any pod before one of Dactyl's own parts (-900), though the
  # kubelet gives pods that got all that they asked for -997.
  restrict_oom_score_adj = true
  # Ports below 1024 and ping need no capability in a pod's own network.
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  stats_collect_period = "10s"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/lib/pods/cni"]
    conf_dir = "/run/from/kubed/pods/cni"
    max_conf_num = 1
    use_internal_loopback = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "/lib/pods/bin/runc"
        # Apart from containerd's own, so that pods live on when it is restarted.
        ShimCgroup = "/shims"
        SystemdCgroup = false
`, poddGroup, pauseImage, hostsPath)

// leastMTU is what IPv4 asks of every link.
const leastMTU = 576

// podNetwork is a bridge with the node's part of the pod network. What leaves it for
// other networks does so under the node's address. Pods reach each other through the
// machine: with portIsolation the plugin, as buildkit/packages edits it, keeps a pod from
// claiming another pod's addresses or the gateway's.
func podNetwork(n Node) object {
	bridge := object{
		"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "portIsolation": true,
		"ipMasq": true, "ipMasqBackend": "nftables",
		"ipam": object{
			"type":    "host-local",
			"dataDir": "/var/lib/cni/networks",
			"ranges":  list{list{object{"subnet": n.PodRange().String()}}},
			"routes":  list{object{"dst": "0.0.0.0/0"}},
		},
	}
	// A pod that sends larger packets than the uplink takes needs an ICMP message to learn
	// of it, and those are filtered in many networks: its uploads would hang.
	if n.MTU >= leastMTU {
		bridge["mtu"] = n.MTU
	}
	return object{
		"cniVersion": "1.0.0", "name": n.Cluster,
		"plugins": list{
			bridge,
			object{"type": "portmap", "capabilities": object{"portMappings": true}, "backend": "nftables"},
		},
	}
}
