package render

import "strings"

func kubelet(n Node) *draft {
	d := newDraft("kubelet", domain)
	d.fix("config", d.file("kubelet.json", asJSON(d.kubeletConfiguration(n))))
	d.fix("kubeconfig", d.kubeconfig(n, "kubelet-kubeconfig.json", "kubelet-client"))
	d.fix("hostname-override", n.Name) // the name of the node's certificate, whatever the machine is called by now
	d.fix("node-ip", n.Address.String())
	return d
}

func (d *draft) kubeletConfiguration(n Node) object {
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
		"systemReserved":         object{"cpu": "200m", "memory": "400Mi", "ephemeral-storage": "256Mi"},
		"kubeReserved":           object{"cpu": "100m", "memory": "150Mi"},
		"enforceNodeAllocatable": list{"pods"},
		// Small disks: etcd's database is on the same one and must never find it full.
		"evictionHard": object{
			"memory.available": "50Mi",
			"nodefs.available": "5%", "nodefs.inodesFree": "5%",
			"imagefs.available": "5%", "imagefs.inodesFree": "5%",
		},
		// Pods that were ended for lack of room have no other machine to go to.
		"evictionPressureTransitionPeriod": "1m",
		// An image that was loaded by hand cannot be pulled again, so it goes late.
		"imageGCHighThresholdPercent": 90, "imageGCLowThresholdPercent": 85,
		"containerLogMaxSize": "10Mi", "containerLogMaxFiles": 3,
	}
}

func resolvConf(n Node) string {
	var b strings.Builder
	for _, r := range n.Resolvers {
		b.WriteString("nameserver " + r.String() + "\n")
	}
	return b.String()
}
