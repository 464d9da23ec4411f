package render

import (
	"strconv"
	"strings"

	"github.com/dactyl-os/dactyl/ipc/config/extraargs"
	"github.com/dactyl-os/dactyl/ipc/pods"
)

func kubelet(n Node) *draft {
	d := newDraft("kubelet", domain)
	d.fix("config", d.file("kubelet.json", asJSON(d.kubeletConfiguration(n))))
	d.fix("kubeconfig", d.kubeconfig(n, "kubelet-kubeconfig.json", "kubelet-client"))
	d.fix("hostname-override", n.Name) // the name of the node's certificate, whatever the machine is called by now
	d.fix("node-ip", n.Address.String())
	// The configuration file says the same. A flag wins over the file, so these stand in
	// both: nothing that is added to the flags later changes who may ask the kubelet.
	d.fix("anonymous-auth", "false")
	d.fix("authorization-mode", "Webhook")
	d.fix("read-only-port", "0")
	return d
}

func (d *draft) kubeletConfiguration(n Node) object {
	imagesHigh, imagesLow := d.imageThresholds(n)
	evict := strconv.Itoa(pods.EvictPercent) + "%"
	return object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",

		// Who may ask it.
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": d.key("kubernetes-ca.crt")},
		},
		"authorization":      object{"mode": "Webhook"},
		"tlsCertFile":        d.key("kubelet-server.crt"),
		"tlsPrivateKeyFile":  d.key("kubelet-server.key"),
		"tlsMinVersion":      "VersionTLS12",
		"tlsCipherSuites":    strings.Split(strongCiphers, ","),
		"readOnlyPort":       0,
		"healthzBindAddress": "127.0.0.1", "healthzPort": 10248,
		"streamingConnectionIdleTimeout": "4h",
		"enableProfilingHandler":         false, "enableDebugFlagsHandler": false,

		// Where it is: the root of cgroups is the pods' domain's.
		"containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
		"cgroupDriver":             "cgroupfs",
		"volumePluginDir":          "/var/lib/kubelet/volume-plugins",
		"podLogsDir":               "/var/log/pods",
		"resolvConf":               d.live("resolv.conf", resolvConf(n)),
		"clusterDNS":               list{n.dnsAddress().String()},
		"clusterDomain":            clusterDomain,
		"protectKernelDefaults":    true, // PID 1 has set them

		// What pods may have.
		"seccompDefault": true,
		"podPidsLimit":   1024,
		// The parts outside the domain (init and its daemons, etcd, the control plane)
		// need some 400 MiB of a small machine, those within about 150. The kubelet
		// counts only what is in its own domain, so what the others take must be reserved.
		"systemReserved":         d.overlay(n, "system-reserved", "=", object{"cpu": "200m", "memory": "400Mi", "ephemeral-storage": "256Mi", "pid": "2000"}),
		"kubeReserved":           d.overlay(n, "kube-reserved", "=", object{"cpu": "100m", "memory": "150Mi"}),
		"enforceNodeAllocatable": list{"pods"},
		// Small disks: etcd's database is on the same one and must never find it full.
		"evictionHard": d.overlay(n, "eviction-hard", "<", object{
			"memory.available": "50Mi",
			"nodefs.available": evict, "nodefs.inodesFree": evict,
			"imagefs.available": evict, "imagefs.inodesFree": evict,
		}),
		// Pods that were ended for lack of room have no other machine to go to.
		"evictionPressureTransitionPeriod": "1m",
		// An image that was loaded by hand cannot be pulled again, so it goes late.
		"imageGCHighThresholdPercent": imagesHigh, "imageGCLowThresholdPercent": imagesLow,
		"containerLogMaxSize": "10Mi", "containerLogMaxFiles": 3,
	}
}

// overlay puts what cluster.yaml asks for over what is set here, entry by entry: who
// asks for another reserve of memory does not thereby give up the disk's. The kubelet
// itself takes a flag in place of all that the file says.
func (d *draft) overlay(n Node, flag, separator string, is object) object {
	value, _ := d.asked(n, flag)
	for _, p := range extraargs.Pairs(value, separator) {
		is[p.Key] = p.Value
	}
	return is
}

// imageThresholds are the percentages of the disk from which, and down to which, unused
// images are removed. Where cluster.yaml asks for one, the other yields: the kubelet
// does not start unless the low one is below the high one.
func (d *draft) imageThresholds(n Node) (high, low int) {
	const apart = 5
	high, low = pods.CollectPercent, pods.CollectedTo
	askedHigh, isHigh := d.asked(n, "image-gc-high-threshold")
	askedLow, isLow := d.asked(n, "image-gc-low-threshold")
	if isHigh {
		high, _ = strconv.Atoi(askedHigh)
		low = max(1, min(low, high-apart))
	}
	if isLow {
		low, _ = strconv.Atoi(askedLow)
		if !isHigh {
			high = min(100, max(high, low+apart))
		}
	}
	return high, low
}

func resolvConf(n Node) string {
	var b strings.Builder
	for _, r := range n.Resolvers {
		b.WriteString("nameserver " + r.String() + "\n")
	}
	return b.String()
}
