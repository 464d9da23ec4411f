// Command networkd owns the machine's links: it puts them up, gives them the
// addresses and routes of the configuration or of DHCP, names the machine and knows
// its name servers.
//
// # How it works
//
// The engine (engine.go, dhcp.go) has no I/O and no clock. It is told what the
// configuration says, what the kernel has (always as a whole), what DHCP servers
// answer, and how late it is; it compares what should be with what is, and says what
// to do about the difference. So a restart, a link that comes back and an address that
// somebody deleted are the same to it, and doing the same twice changes nothing. One
// goroutine owns it; kernel_linux.go and packet_linux.go have the only system calls.
//
// # What it does to which link
//
// Every physical Ethernet link is put up. Without interfaces in the configuration
// each of them gets DHCP; with interfaces only those listed get addresses, and a link of
// any kind can be listed. Links that appear later are treated the same, except USB
// devices: one that appears more than two minutes after the start is left down unless it
// is listed, so that plugging a stick in does not give it the machine's routes. A card that
// was there at boot may be unplugged and come back. The mark of such a card is its group. What others
// made (CNI's bridges, pods' addresses, routes of other origins) is never touched:
// networkd changes and removes only what carries its mark. The mark is the protocol
// number in the kernel's own table, of routes (RTPROT_DHCP, RTPROT_STATIC) and of
// addresses (IFA_PROTO, the same numbers), so it survives networkd.
//
// The loopback link has one address more, 192.0.0.8: the machine's own, which pods
// reach and the network does not, always the same, and there without any network too.
//
// A link's routes have the metric 1000 + its index: of two uplinks the first leads. A
// link without carrier for 3 seconds loses its routes through gateways, not its
// addresses, so that another uplink takes over and connections live through a
// cable that is plugged in again.
//
// # DHCP
//
// RFC 2131's client with RFC 3442's classless routes. A lease's address carries the
// lease's end in the kernel too, which removes it should networkd not be there to. A
// lease is confirmed (INIT-REBOOT) when networkd starts and when a carrier comes
// back; until a server answers, and if none does until the lease ends, the address
// stays. Renewals go to the server by unicast; only broadcasts are sent as raw frames.
// The raw socket listens only while an answer is due. An offer is confirmed, and a lease
// renewed, by the server that gave it and no other.
//
// Of a lease networkd takes the address, routes, name servers, time servers (option 42,
// for timed) and the MTU (option 26, unless the configuration has one). Of two routes to
// one destination the first counts. A route to addresses of pods, of Services or of the
// machine itself is left out, and so is an MTU that the link cannot have; the log says so.
//
// # The packet filter
//
// networkd has one nftables table, "dactyl" (filter_linux.go), beside those of kube-proxy
// and CNI. An uplink is a link that networkd configures, or could: every physical one and
// those that the configuration lists.
//
//   - The API's port is refused to pods. Uplinks, the machine itself and tunnels (tun,
//     WireGuard) reach it.
//   - The machine's own ports (daemons/abi, Ports) are the machine's, whatever hostPort or
//     NodePort wants them.
//   - Connections to the API and to kube-apiserver by an uplink, and those between parts of
//     the machine, are not tracked: a full connection table does not cut them off. A Service
//     outside the machine's own port that leads to the machine's port 6443 or 7400 does
//     not work from an uplink for this reason.
//   - What arrives on an uplink for a pod's or a Service's address or for 192.0.0.8 is
//     dropped, unless it is an answer. So is what a neighbour wants forwarded anywhere,
//     unless kube-proxy or portmap gave it another destination: the machine is no router.
//     What has a pod's address as its source is dropped, too.
//
// An uplink takes packets whose answers leave by another link (rp_filter 2): with two
// cables in one network, the kernel answers by the first what arrives by the second. All
// other links are strict: what a pod sends with an address that is not of the pods'
// network is dropped.
//
// The table belongs to networkd's socket: no other process can change it, not even with
// nft flush ruleset. Each change is one transaction. When networkd ends, the table stays
// in force, and the next networkd takes it over. Until the configuration is known, nothing
// is changed.
//
// # What survives a restart
//
// All addresses and routes, hence all connections: nothing is removed when networkd
// ends, and what its successor finds it adopts. The name servers of DHCP are known
// again when the lease is confirmed, milliseconds later. Old and new process may
// run side by side: both want the same.
//
// When configd does not answer for 5 seconds, the default (DHCP) is assumed for links
// that have no configured address yet, and nothing is taken away from the others until it
// answers. It is asked again up to once a minute, so a changed YAML is applied without
// a restart.
//
// # What it never does
//
// It opens no file. It has no IPv6 beyond link-local addresses (the kernel's) and
// configured ones: no router advertisements (the kernel ignores them, as CIS asks)
// and no DHCPv6. It does not probe a DHCP address for conflicts (DHCPDECLINE) nor
// release it when the machine stops: the next boot gets the same one sooner. No
// Wi-Fi, no VLANs, bonds, or bridges that networkd makes.
//
// # Who calls it
//
// The outside through the gateway; timed (ListResolvers, ListTimeServers), trustd and consoled
// (ListAddresses). It calls configd (GetNetwork) and PID 1 (SetHostname).
package main
