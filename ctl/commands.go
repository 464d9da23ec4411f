package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/etcd"
	machineapi "github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/storage"
	systime "github.com/dactyl-os/dactyl/ipc/time"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

// command is one line of the table below.
type command struct {
	use      string // with its arguments in capitals
	short    string
	long     string
	example  string
	flags    func(*pflag.FlagSet)
	complete func(*call) []string // values of the first argument
	run      func(*call) error
	hidden   bool // for programs, not for people
	sub      []command
}

// commands is everything that dactyl can do.
func commands() []command {
	return []command{
		{use: "flash IMAGE DEVICE", short: "Write an image to a disk and verify it", long: flashLong,
			example: "  dactyl flash dactyl.raw /dev/sdb\n  dactyl flash dactyl.raw /dev/sdb --config cluster.yaml --yes\n  dactyl flash dactyl.raw disk.raw --file",
			flags:   flashFlags, run: flashImage},
		{use: "claim ADDRESS", short: "Become the admin of a new machine", long: claimLong,
			example: "  dactyl claim 192.0.2.10 --code 7K3M-…\n  dactyl claim node-1.example.net --name node-1\n  dactyl claim fe80::5054:ff:fe12:3456%eth0",
			flags:   claimFlags, run: claimMachine},
		{use: "context", short: "Which machine commands go to", sub: []command{
			{use: "list", short: "List the machines that this computer has credentials for", run: listContexts},
			{use: "use NAME", short: "Make a machine the current one", complete: contextNames, run: useContext},
			{use: "add NAME", short: "Add a machine from PEM files", long: addContextLong,
				example: "  dactyl context add node-1 --address 192.0.2.10 --from ./node-1",
				flags:   addContextFlags, run: addContext},
			{use: "remove NAME", short: "Forget a machine and its credentials", flags: consentFlags,
				complete: contextNames, run: removeContext},
		}},
		{use: "daemons", short: "List daemons with their state and confinement", flags: daemonFlags,
			run: call1(machineapi.NewClient, machineapi.Client.ListDaemons, showDaemons)},
		{use: "graph", short: "List who may call whom",
			run: query(machineapi.NewClient, machineapi.Client.GetGraph, graphTable)},
		{use: "restart DAEMON", short: "Restart a daemon without losing a call", example: "  dactyl restart networkd",
			complete: daemonNames, run: restartDaemon},
		{use: "logs DAEMON", short: "Show what a daemon has written",
			example: "  dactyl logs networkd --tail 20\n  dactyl logs networkd -f",
			flags:   logFlags, complete: daemonNames, run: showLog},
		{use: "dmesg", short: "Show the kernel's messages", flags: logFlags, run: showKernelLog},
		{use: "network", short: "Links, addresses, routes, name servers", sub: []command{
			{use: "links", short: "List links", run: query(network.NewClient, network.Client.ListLinks, linkTable)},
			{use: "addresses", short: "List addresses", run: query(network.NewClient, network.Client.ListAddresses, addressTable)},
			{use: "routes", short: "List the main routing table", run: query(network.NewClient, network.Client.ListRoutes, routeTable)},
			{use: "resolvers", short: "List name servers", run: query(network.NewClient, network.Client.ListResolvers, resolverTable)},
			{use: "time-servers", short: "List the time servers that DHCP named", run: query(network.NewClient, network.Client.ListTimeServers, timeServerTable)},
		}},
		{use: "storage", short: "Disks, partitions, volumes", sub: []command{
			{use: "disks", short: "List disks", run: query(storage.NewClient, storage.Client.ListDisks, diskTable)},
			{use: "partitions", short: "List partitions", run: query(storage.NewClient, storage.Client.ListPartitions, partitionTable)},
			{use: "mounts", short: "List the system's volumes", run: storageMounts},
		}},
		{use: "time", short: "Show the machine's clock and whether a server has confirmed it",
			run: query(systime.NewClient, systime.Client.GetTime, timeTable)},
		{use: "config", short: "The machine's YAML", sub: []command{
			{use: "show", short: "Print the YAML in force", run: call1(config.NewClient, config.Client.GetConfig, showConfig)},
		}},
		{use: "kubeconfig", short: "Print a kubeconfig for the cluster", long: kubeconfigLong,
			example: "  dactyl kubeconfig --out k && kubectl --kubeconfig k get nodes\n  dactyl kubeconfig --exec --out ~/.kube/config",
			flags:   kubeconfigFlags, run: showKubeconfig},
		{use: "kube", short: "Kubernetes on the machine", sub: []command{
			{use: "status", short: "Show the node and every component: how it is, and what it waits for",
				flags: kubeFlags, run: kubeStatus},
			{use: "restart COMPONENT", short: "Restart a component; pods run on", example: "  dactyl kube restart kubelet",
				complete: componentNames, run: restartComponent},
			{use: "credential", short: "Print a certificate for kubectl", flags: credentialFlags, hidden: true, run: showCredential},
		}},
		{use: "image", short: "Images that pods start from without a registry", sub: []command{
			{use: "list", short: "List images", run: call1(pods.NewClient, pods.Client.ListImages, showImages)},
			{use: "load FILE", short: "Send an image to the machine", long: loadLong,
				example: "  dactyl image load app.tar\n  docker save app:1 | dactyl image load -",
				flags:   loadFlags, run: loadImage},
			{use: "remove NAME", short: "Remove an image with all its names", complete: imageNames, run: removeImage},
		}},
		{use: "registry", short: "Registries that images are pulled from", sub: []command{
			{use: "login REGISTRY", short: "Store a name and a password for a registry on the machine", long: loginLong,
				example: "  dactyl registry login registry.example.org:5000 --username me\n  pass show registry | dactyl registry login docker.io --username me",
				flags:   loginFlags, run: registryLogin},
			{use: "logout REGISTRY", short: "Remove them", complete: registryNames, run: registryLogout},
			{use: "list", short: "List registries that there is a password for", run: query(pods.NewClient, pods.Client.ListRegistryCredentials, registryTable)},
		}},
		{use: "etcd", short: "The cluster's database", sub: []command{
			{use: "status", short: "Show how it is", run: query(etcd.NewClient, etcd.Client.GetStatus, etcdTable)},
			{use: "snapshot FILE", short: "Save it to a file", long: snapshotLong,
				example: "  dactyl etcd snapshot cluster.db\n  dactyl etcd snapshot - | age -r age1… > cluster.db.age", run: saveSnapshot},
		}},
		{use: "trust", short: "What the machine knows of certificates", sub: []command{
			{use: "certs", short: "List certificates and CAs", run: call1(trust.NewClient, trust.Client.ListCertificates, showCertificates),
				example: "  dactyl trust certs\n  dactyl trust certs -o wide"},
		}},
		{use: "cert", short: "Client certificates", sub: []command{
			{use: "issue", short: "Issue a client certificate with a role", long: issueLong,
				example: "  dactyl cert issue --role reader --name monitoring --ttl 720h --out ./monitoring\n  dactyl cert issue --role operator --name alice --csr alice.csr --out ./alice",
				flags:   issueFlags, run: issueCertificate},
			{use: "renew", short: "Replace this context's client certificate by a new one", run: renewCertificate},
		}},
		{use: "reboot", short: "Restart the machine", flags: powerFlags, run: reboot.run},
		{use: "shutdown", short: "Power the machine off", flags: powerFlags, run: shutdown.run},
		{use: "dev", short: "Replace daemons of a development machine", sub: []command{
			{use: "replace NAME FILE", short: "Run another binary of a daemon, until restored or rebooted",
				example:  "  CGO_ENABLED=0 go build -o out/networkd.new ./networkd\n  dactyl dev replace networkd out/networkd.new",
				complete: daemonNames, run: replaceDaemon},
			{use: "restore NAME", short: "Go back to the image's binary", complete: daemonNames, run: restoreDaemon},
		}},
		{use: "version", short: "Show this command's version and the machine's", flags: versionFlags, run: showVersion},
	}
}

// call is one run of one command.
type call struct {
	*app
	ctx   context.Context
	args  []string
	flags *pflag.FlagSet
}

// root makes cobra's tree of the table.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "dactyl",
		Short:         "Manage machines that run Dactyl",
		Long:          "dactyl manages machines that run Dactyl: it writes images to disks, claims new machines and speaks their API.\n\n" + exitHelp,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          a.needsCommand,
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	f := root.PersistentFlags()
	f.StringVar(&a.store, "store", "", "`directory` of contexts.yaml (default $DACTYL_CONFIG or ~/.config/dactyl)")
	f.StringVar(&a.context, "context", "", "machine by its `name` here (default $DACTYL_CONTEXT or the current one)")
	f.StringVar(&a.address, "address", "", "another `host[:port]` for the same credentials (default $DACTYL_ADDRESS)")
	f.StringVarP(&a.output, "output", "o", asTable, "`form` of the answer: table, wide (a table with all columns), json or yaml")
	f.DurationVar(&a.timeout, "timeout", 30*time.Second, "how `long` an answer may take")
	a.add(root, commands())
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{asTable, asWide, asJSON, asYAML}, cobra.ShellCompDirectiveNoFileComp))
	_ = root.RegisterFlagCompletionFunc("context", a.completion(contextNames))
	return root
}

const exitHelp = `Exit codes: 0 done, 1 error, 2 machine not reached, 3 certificate, role or pairing
code not accepted, 4 not found, 5 refused, 6 no answer in time, 7 not known to this
machine, 64 wrong command line, 130 interrupted.`

func (a *app) add(parent *cobra.Command, table []command) {
	for _, c := range table {
		cmd := &cobra.Command{Use: c.use, Short: c.short, Long: c.long, Example: c.example, Args: arguments, RunE: a.runner(c.run), Hidden: c.hidden}
		if c.flags != nil {
			c.flags(cmd.Flags())
		}
		if c.sub != nil {
			cmd.Args, cmd.RunE = cobra.NoArgs, a.needsCommand
			a.add(cmd, c.sub)
		}
		cmd.ValidArgsFunction = a.completion(c.complete)
		parent.AddCommand(cmd)
	}
}

func (a *app) runner(run func(*call) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if !slices.Contains([]string{asTable, asWide, asJSON, asYAML}, a.output) {
			return fmt.Errorf("-o %s: want table, wide, json or yaml", a.output)
		}
		if a.output == asWide {
			a.output, a.wide = asTable, true
		}
		a.started = true
		return run(&call{a, cmd.Context(), args, cmd.Flags()})
	}
}

// arguments wants as many as the command's line in the table names.
func arguments(cmd *cobra.Command, args []string) error {
	named := strings.Fields(cmd.Use)[1:]
	switch {
	case len(named) == 0 && len(args) > 0:
		return fmt.Errorf("%s takes no arguments, got %q", cmd.CommandPath(), args[0])
	case len(named) != len(args):
		return fmt.Errorf("%s wants %s, got %d arguments", cmd.CommandPath(), strings.Join(named, " "), len(args))
	}
	return nil
}

// needsCommand is what a group of commands does alone.
func (a *app) needsCommand(cmd *cobra.Command, _ []string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return fmt.Errorf("%s needs a command: %s", cmd.CommandPath(), strings.Join(names, ", "))
}

// asked is the command that a wrong command line meant, as far as it can be told.
func (a *app) asked(root *cobra.Command, args []string) string {
	if cmd, _, err := root.Find(args); err == nil {
		return cmd.CommandPath()
	}
	return root.Name()
}

type completer = func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective)

// completion offers values for the first argument; without any, files.
func (a *app) completion(values func(*call) []string) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if values == nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		a.timeout = completionTimeout
		return values(&call{a, cmd.Context(), args, cmd.Flags()}), cobra.ShellCompDirectiveNoFileComp
	}
}

// completionTimeout is as long as somebody who has pressed Tab may wait.
const completionTimeout = 2 * time.Second

// Flags by name; one that the command's table line does not define is a BUG.

func (c *call) flag(name string) string {
	f := c.flags.Lookup(name)
	if f == nil {
		panic("BUG: no flag --" + name)
	}
	return f.Value.String()
}

func (c *call) isSet(name string) bool { return c.flag(name) == "true" }

func (c *call) duration(name string) time.Duration {
	d, err := c.flags.GetDuration(name)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return d
}
