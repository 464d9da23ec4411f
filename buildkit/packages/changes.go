package packages

// docs/upstream.md lists these changes; its test prints the list that it should have.

// execInput lets a program read its whole input after it has closed an output.
//
// containerd ends the input as soon as one output has ended. "cat > F" has no output: the
// shell closes it before it starts cat. Now the end of the process ends the input; the
// end of an output does so only for terminals, which have one output and close it last.
//
// containerd's end of the input is closed too, or else a program that ends before it has
// read its input would leave containerd writing forever: the shim holds the reading end.
var execInput = Change{
	Module: containerd,
	Issues: []string{"containerd/containerd#13934", "containerd/containerd#12734"},
	What:   "`kubectl exec -i` and `kubectl attach -i` deliver the whole input to a program that has closed an output, and end when the program ends",
	test:   "internal/cri/io", testFiles: "exec_input",
	edits: []edit{
		{
			"internal/cri/io/helpers.go",
			"\tCloseStdin func() error\n",
			"\tCloseStdin func() error\n" +
				"\t// Exited is closed when the process has ended.\n" +
				"\tExited <-chan struct{}\n",
		},
		{
			"internal/cri/io/exec_io.go",
			"\t\tstdinStreamRC = cioutil.NewWrapReadCloser(opts.Stdin)\n",
			"\t\tstdinStreamRC = cioutil.NewWrapReadCloser(opts.Stdin)\n" +
				"\t\tif !opts.Tty {\n" +
				"\t\t\tgo func() {\n" +
				"\t\t\t\t<-opts.Exited\n" +
				"\t\t\t\tstdinStreamRC.Close()\n" +
				"\t\t\t\te.stdin.Close()\n" +
				"\t\t\t}()\n" +
				"\t\t}\n",
		},
		{
			"internal/cri/io/exec_io.go",
			"\t\tif stdinStreamRC != nil {\n\t\t\tstdinStreamRC.Close()\n\t\t}\n",
			"\t\tif opts.Tty && stdinStreamRC != nil {\n\t\t\tstdinStreamRC.Close()\n\t\t\te.stdin.Close()\n\t\t}\n",
		},
		{
			"internal/cri/server/container_execsync.go",
			"\tattachDone := execIO.Attach(cio.AttachOptions{\n",
			"\texited, exit := context.WithCancel(context.Background())\n" +
				"\tdefer exit()\n" +
				"\tattachDone := execIO.Attach(cio.AttachOptions{\n" +
				"\t\tExited:    exited.Done(),\n",
		},
		{
			"internal/cri/server/container_execsync.go",
			"\t\texitRes := <-exitCh\n",
			"\t\texitRes := <-exitCh\n\t\texit()\n",
		},
		{
			"internal/cri/server/container_execsync.go",
			"\tcase exitRes := <-exitCh:\n",
			"\tcase exitRes := <-exitCh:\n\t\texit()\n",
		},
		{
			"internal/cri/io/container_io.go",
			"\t\tstdinStreamRC = cioutil.NewWrapReadCloser(opts.Stdin)\n",
			"\t\tstdinStreamRC = cioutil.NewWrapReadCloser(opts.Stdin)\n" +
				"\t\tif !opts.Tty {\n" +
				"\t\t\tgo func() {\n" +
				"\t\t\t\t<-opts.Exited\n" +
				"\t\t\t\tstdinStreamRC.Close()\n" +
				"\t\t\t}()\n" +
				"\t\t}\n",
		},
		{
			"internal/cri/io/container_io.go",
			"\t\tif stdinStreamRC != nil {\n",
			"\t\tif opts.Tty && stdinStreamRC != nil {\n",
		},
		{
			"internal/cri/server/container_attach.go",
			"\topts := cio.AttachOptions{\n",
			"\texitCh, err := task.Wait(ctx)\n" +
				"\tif err != nil {\n" +
				"\t\treturn fmt.Errorf(\"failed to wait for task: %w\", err)\n" +
				"\t}\n" +
				"\texited := make(chan struct{})\n" +
				"\tgo func() {\n" +
				"\t\t<-exitCh\n" +
				"\t\tclose(exited)\n" +
				"\t}()\n" +
				"\topts := cio.AttachOptions{\n" +
				"\t\tExited:    exited,\n",
		},
	},
}

// terminatingProbes lets probes run until the pod has ended.
//
// The kubelet ends the context of a pod's first sync when the pod is deleted, and probes
// have that context. Their workers are stopped by a channel, so they need no end of it.
var terminatingProbes = Change{
	Module: kubernetes,
	Issues: []string{"kubernetes/kubernetes#140881"},
	What:   "exec probes of a pod run on while the pod terminates, so that a readiness probe takes it out of its Services",
	test:   "pkg/kubelet/prober", testFiles: "terminating_probes",
	edits: []edit{
		{
			"pkg/kubelet/prober/prober_manager.go",
			"\tlogger := klog.FromContext(ctx)\n\tkey := probeKey{podUID: pod.UID}\n",
			"\tctx = context.WithoutCancel(ctx)\n\tlogger := klog.FromContext(ctx)\n\tkey := probeKey{podUID: pod.UID}\n",
		},
	},
}

// pluginPackages make packages of the CNI plugins' programs, which Go would otherwise
// not import into one program.
var pluginPackages = Change{
	Module:   plugins,
	What:     "the plugins' programs are packages, so that they are linked into one program",
	programs: []string{"plugins/main/bridge", "plugins/main/loopback", "plugins/ipam/host-local", "plugins/meta/portmap"},
	edits: []edit{
		{"plugins/main/bridge/bridge.go", "\npackage main\n", "\npackage bridge\n"},
		{"plugins/main/bridge/bridge.go", "\nfunc main() {\n", "\nfunc Main() {\n"},
		{"plugins/main/loopback/loopback.go", "\npackage main\n", "\npackage loopback\n"},
		{"plugins/main/loopback/loopback.go", "\nfunc main() {\n", "\nfunc Main() {\n"},
		{"plugins/ipam/host-local/dns.go", "\npackage main\n", "\npackage hostlocal\n"},
		{"plugins/ipam/host-local/main.go", "\npackage main\n", "\npackage hostlocal\n"},
		{"plugins/ipam/host-local/main.go", "\nfunc main() {\n", "\nfunc Main() {\n"},
		{"plugins/meta/portmap/chain.go", "\npackage main\n", "\npackage portmap\n"},
		{"plugins/meta/portmap/main.go", "\npackage main\n", "\npackage portmap\n"},
		{"plugins/meta/portmap/main.go", "\nfunc main() {\n", "\nfunc Main() {\n"},
		{"plugins/meta/portmap/portmap_iptables.go", "\npackage main\n", "\npackage portmap\n"},
		{"plugins/meta/portmap/portmap_nftables.go", "\npackage main\n", "\npackage portmap\n"},
		{"plugins/meta/portmap/utils.go", "\npackage main\n", "\npackage portmap\n"},
	},
}

// pluginAddresses binds a pod's port of the bridge to the pod's addresses.
//
// portIsolation keeps frames between the pods' ports apart, so a pod cannot answer ARP for
// another one or for the gateway. Pods reach each other through the machine, which answers
// their ARP requests with its own hardware address (proxy_arp_pvlan, without the delay of
// a proxy). The plugin has no setting for the rest: the machine learns neither a port's
// hardware addresses nor the pods' IP addresses from what a pod sends.
//
// The plugin's own macspoofchk needs NF_TABLES_BRIDGE in the kernel and leaves ARP open.
var pluginAddresses = Change{
	Module: plugins,
	What:   "with `portIsolation`, the bridge plugin binds a pod's IP and hardware addresses to its port, and the machine answers ARP between pods",
	edits: []edit{
		{
			"plugins/main/bridge/bridge.go",
			"\tif !n.DisableContainerInterface {\n\t\t// check bridge port state\n",
			"\tif n.PortIsolation {\n" +
				"\t\tif err := bindAddresses(br, hostVeth, containerInterface.Mac, result.IPs); err != nil {\n" +
				"\t\t\treturn err\n" +
				"\t\t}\n" +
				"\t}\n\n" +
				"\tif !n.DisableContainerInterface {\n\t\t// check bridge port state\n",
		},
		{
			"plugins/main/bridge/bridge.go",
			"\t// call ipam.ExecDel after clean up device in netns\n",
			"\treleaseAddresses(n.BrName, ipnets)\n\n" +
				"\t// call ipam.ExecDel after clean up device in netns\n",
		},
		{
			"plugins/main/bridge/bridge.go",
			"func dnsConfSet(dnsConf types.DNS) bool {\n",
			`// bindAddresses sends frames for the container's hardware address to its port, and
// packets for its IP addresses to that hardware address, whatever a container claims.
func bindAddresses(br *netlink.Bridge, port netlink.Link, mac string, ips []*current.IPConfig) error {
	hardware, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	for _, setting := range [][2]string{
		{"net/ipv4/conf/%s/proxy_arp_pvlan", "1"},
		{"net/ipv4/neigh/%s/proxy_delay", "0"},
		{"net/ipv4/conf/%s/send_redirects", "0"},
	} {
		name := fmt.Sprintf(setting[0], br.Attrs().Name)
		if _, err := sysctl.Sysctl(name, setting[1]); err != nil {
			return fmt.Errorf("set %s: %v", name, err)
		}
	}
	if err := netlink.LinkSetLearning(port, false); err != nil {
		return fmt.Errorf("turn learning off for %q: %v", port.Attrs().Name, err)
	}
	if err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex: port.Attrs().Index, Family: syscall.AF_BRIDGE, Flags: netlink.NTF_MASTER,
		State: netlink.NUD_NOARP, HardwareAddr: hardware,
	}); err != nil {
		return fmt.Errorf("bind %s to %q: %v", mac, port.Attrs().Name, err)
	}
	for _, config := range ips {
		if config.Address.IP.To4() == nil {
			continue
		}
		if err := netlink.NeighSet(&netlink.Neigh{
			LinkIndex: br.Attrs().Index, State: netlink.NUD_PERMANENT, IP: config.Address.IP, HardwareAddr: hardware,
		}); err != nil {
			return fmt.Errorf("bind %s to %s: %v", config.Address.IP, mac, err)
		}
	}
	return nil
}

// releaseAddresses forgets to which hardware address the IP addresses were bound.
func releaseAddresses(bridge string, addresses []*net.IPNet) {
	br, err := bridgeByName(bridge)
	if err != nil {
		return
	}
	for _, a := range addresses {
		if a.IP.To4() != nil {
			_ = netlink.NeighDel(&netlink.Neigh{LinkIndex: br.Attrs().Index, IP: a.IP})
		}
	}
}

` +
				"func dnsConfSet(dnsConf types.DNS) bool {\n",
		},
	},
}
