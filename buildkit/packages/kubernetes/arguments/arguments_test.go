// Package arguments is a program that checks the arguments of a Kubernetes component with
// the component's own code, and starts nothing:
//
//	go test -c -o arguments ./arguments
//	./arguments kubelet --config=… --max-pods=30
//
// It exits with 0 if the component would take them, and with 1 and the component's own
// message if not. A test of kubed/internal/render builds and uses it. It is a test itself
// so that it counts as no source of the programs that are built from this folder.
package arguments

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/spf13/pflag"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"

	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	_ "k8s.io/kubernetes/pkg/apis/resource/install" // an API that runtime-config may turn on
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
)

// checks are the components by name. As a component does, each check sets feature gates
// for the whole process: a process checks one component.
var checks = map[string]func(args []string) error{
	"kube-apiserver":          checkAPIServer,
	"kube-controller-manager": checkControllerManager,
	"kube-scheduler":          checkScheduler,
	"kube-proxy":              checkProxy,
	"kubelet":                 checkKubelet,
	"policy":                  checkPolicy,
}

// TestMain is the program.
func TestMain(*testing.M) {
	if len(os.Args) < 2 || checks[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: arguments kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy|kubelet [FLAG…], or policy POLICY [OBJECT…]")
		os.Exit(2)
	}
	if err := checks[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func checkAPIServer(args []string) error {
	if err := addLoggingGates(); err != nil {
		return err
	}
	o := apiserver.NewServerRunOptions()
	if err := parse(args, o.Flags()); err != nil {
		return err
	}
	if err := o.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	completed, err := o.Complete(context.Background())
	if err != nil {
		return err
	}
	return errors.Join(completed.Validate()...)
}

func checkControllerManager(args []string) error {
	if err := addLoggingGates(); err != nil {
		return err
	}
	o, err := manager.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	// Those that the rendered flags name; the others would only lengthen --help.
	all := []string{names.ServiceAccountTokenController, names.CertificateSigningRequestSigningController, names.CertificateSigningRequestApprovingController}
	if err := parse(args, o.Flags(all, nil, nil)); err != nil {
		return err
	}
	if err := o.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	return o.Validate(all, nil, nil)
}

func checkScheduler(args []string) error {
	if err := addLoggingGates(); err != nil {
		return err
	}
	o := scheduler.NewOptions()
	if err := parse(args, *o.Flags); err != nil {
		return err
	}
	if err := o.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	config, err := latest.Default()
	if err != nil {
		return err
	}
	o.ComponentConfig = config
	o.ApplyDeprecated()
	return errors.Join(o.Validate()...)
}

func checkProxy(args []string) error {
	if err := addLoggingGates(); err != nil {
		return err
	}
	o := proxy.NewOptions()
	fs := flags()
	o.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := o.Complete(fs); err != nil {
		return err
	}
	return o.Validate()
}

// addLoggingGates is what the components' main packages do before they define flags.
func addLoggingGates() error {
	return logsapi.AddFeatureGates(utilfeature.DefaultMutableFeatureGate)
}

func flags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	return fs
}

func parse(args []string, sets cliflag.NamedFlagSets) error {
	fs := flags()
	for _, set := range sets.FlagSets {
		fs.AddFlagSet(set)
	}
	return fs.Parse(args)
}
