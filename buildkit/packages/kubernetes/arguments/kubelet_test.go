package arguments

import (
	"context"
	"io"
	"path/filepath"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/validation"
	"k8s.io/kubernetes/pkg/kubelet/eviction"
	"k8s.io/kubernetes/pkg/kubelet/kubeletconfig/configfiles"
	utilfs "k8s.io/kubernetes/pkg/util/filesystem"
)

// checkKubelet does what the kubelet's command does before it runs: the file that
// --config names is read, the flags are set over it, and both together are validated.
func checkKubelet(args []string) error {
	own := options.NewKubeletFlags()
	config, err := options.NewKubeletConfiguration()
	if err != nil {
		return err
	}
	fs := flags()
	fs.SetOutput(io.Discard) // what is deprecated
	own.AddFlags(fs)
	options.AddKubeletConfigFlags(fs, config)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := options.ValidateKubeletFlags(own); err != nil {
		return err
	}
	name, err := filepath.Abs(own.KubeletConfigFile)
	if err != nil {
		return err
	}
	loader, err := configfiles.NewFsLoader(&utilfs.DefaultFs{}, name)
	if err != nil {
		return err
	}
	if config, err = loader.Load(context.Background()); err != nil {
		return err
	}
	again := flags()
	again.SetOutput(io.Discard)
	options.NewKubeletFlags().AddFlags(again)
	options.AddKubeletConfigFlags(again, config)
	if err := again.Parse(args); err != nil {
		return err
	}
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(config.FeatureGates); err != nil {
		return err
	}
	config.FailCgroupV1 = false // it looks at the machine that it runs on
	if err := validation.ValidateKubeletConfiguration(config, utilfeature.DefaultFeatureGate); err != nil {
		return err
	}
	// The kubelet parses these later, when it has begun to start.
	_, err = eviction.ParseThresholdConfig(config.EnforceNodeAllocatable, config.EvictionHard, config.EvictionSoft,
		config.EvictionSoftGracePeriod, config.EvictionMinimumReclaim)
	return err
}
