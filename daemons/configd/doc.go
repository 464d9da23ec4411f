// Command configd owns the machine's one YAML: it parses it, checks it, keeps the
// last good one and hands each daemon its own part.
//
// # Where the file comes from
//
// /boot/cluster.yaml, put on the ESP when the machine was flashed, is taken when it
// is valid, and a copy is kept as /state/configd/cluster.yaml. When the file on the
// ESP is missing or has a mistake, the copy stays in force; when there is no copy
// either, the defaults: DHCP on every physical link, a host name made from a MAC
// address, public time servers. GetConfig says which it was and what the mistake is.
//
// The files are looked at (not read) at every call, so a file that changes is noticed
// without a watcher. A disk that is mounted after configd has started is not: it
// is no part of configd's root. Those who apply the configuration ask again from time
// to time.
//
// # The file
//
//	hostname: kitchen                # left out: dactyl- and the end of a MAC address
//	network:
//	  interfaces:                    # left out: DHCP on every physical link
//	    - name: eth0
//	      dhcp: true
//	    - name: eth1
//	      addresses: [192.168.7.10/24, "fd00:7::10/64"]
//	      gateway: 192.168.7.1
//	  nameservers: [192.168.7.1]     # left out: those of DHCP
//	time:
//	  servers: [time.cloudflare.com] # names or addresses
//	kubernetes:                      # left out: no part in a cluster; {}: the defaults
//	  cluster: dactyl
//	  podNetwork: 10.244.0.0/16
//	  serviceNetwork: 10.96.0.0/16
//	  role: control-plane
//	  extraArgs:
//	    kubelet: {v: 4}              # flags of ipc/config/extraargs, handed on as they are written
//
// Parsing is strict: an unknown or repeated key, a wrong type or a combination that
// cannot work is an error with file, line, column, the key's path and what would be
// right, and nothing of the file is applied. Anchors, aliases, merge keys, explicit
// tags and further documents are mistakes too: what the file says stands where it is
// read. The keys are those of one machine; a nodes: list, whose entries carry
// the same keys, can join them later without changing what a file of today means.
//
// # What it never does
//
// It holds no secret, calls nobody, has no network and no capability.
//
// # What survives a restart
//
// The copy. Everything else is read again.
package main
