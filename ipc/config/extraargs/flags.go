package extraargs

import "time"

type component1 struct {
	name  string
	flags []Flag
}

// verbosity stops where the components begin to log the contents of requests: a person
// who may read logs may not read Secrets.
var verbosity = Flag{"v", "more in the log, for a person who looks for a fault; higher levels log the contents of requests", "2", whole(0, 4)}

// Rates of a component's own requests to the API server.
var (
	clientRate  = Flag{"kube-api-qps", "requests a second to the API server, on a machine that is slow or fast", "50", whole(1, 1000)}
	clientBurst = Flag{"kube-api-burst", "requests at once to the API server, on a machine that is slow or fast", "100", whole(1, 2000)}
)

func syncs(what string) Flag {
	return Flag{"concurrent-" + what + "-syncs", "objects that are handled at the same time, on a machine that is slow or fast", "2", whole(1, 50)}
}

// components are all flags, sorted by name in each component.
var components = []component1{
	{"kube-apiserver", []Flag{
		{"audit-log-maxage", "days for which the audit log is kept; fewer than 30 are too few to find out what happened", "60", whole(30, 3650)},
		{"audit-log-maxbackup", "older files of the audit log; with fewer than 10 a burst of requests replaces what was before it", "20", whole(10, 100)},
		{"audit-log-maxsize", "MB in each file of the audit log, on a small or large disk; full ones shrink to a twentieth", "50", whole(10, 1000)},
		{"default-not-ready-toleration-seconds", "how long pods stay on a node that is not ready", "60", whole(0, 86400)},
		{"default-unreachable-toleration-seconds", "how long pods stay on a node that does not answer", "60", whole(0, 86400)},
		{"event-ttl", "how long events are kept in the database", "30m", period(time.Minute, 7*24*time.Hour)},
		{"feature-gates", "features that are off by default and change no check", "HPAScaleToZero=true", gates("HPAScaleToZero", "MaxUnavailableStatefulSet")},
		{"max-mutating-requests-inflight", "writing requests at the same time, on a machine that is slow or fast", "150", whole(10, 2000)},
		{"max-requests-inflight", "reading requests at the same time, on a machine that is slow or fast", "300", whole(20, 4000)},
		{"min-request-timeout", "seconds after which a watch may be ended, so that clients connect again more or less often", "1800", whole(60, 86400)},
		{"request-timeout", "how long a request may take, on a slow disk", "2m", period(10*time.Second, 10*time.Minute)},
		{"runtime-config", "APIs that are not served by default, each with the rights that RBAC gives", "resource.k8s.io/v1beta1=true", apis},
		verbosity,
	}},
	{"kube-controller-manager", []Flag{
		syncs("cron-job"), syncs("daemonset"), syncs("deployment"), syncs("endpoint"), syncs("gc"), syncs("job"), syncs("namespace"),
		syncs("replicaset"), syncs("resource-quota"), syncs("service-endpoint"), syncs("statefulset"),
		{"feature-gates", "features that are off by default and change no check", "HPAScaleToZero=true", gates("HPAScaleToZero", "MaxUnavailableStatefulSet")},
		{"horizontal-pod-autoscaler-cpu-initialization-period", "how long after its start a pod's use of the processor does not count", "2m", period(0, time.Hour)},
		{"horizontal-pod-autoscaler-downscale-stabilization", "how long the autoscaler waits before it takes pods away", "2m", period(0, 24*time.Hour)},
		{"horizontal-pod-autoscaler-initial-readiness-delay", "how long after its start a pod's readiness may change before it counts", "30s", period(0, time.Hour)},
		{"horizontal-pod-autoscaler-sync-period", "how often the autoscaler looks", "30s", period(time.Second, time.Hour)},
		{"horizontal-pod-autoscaler-tolerance", "the change that the autoscaler leaves alone", "0.2", ratio},
		clientBurst,
		clientRate,
		{"terminated-pod-gc-threshold", "ended pods that are kept to be looked at", "50", whole(1, 12500)},
		verbosity,
	}},
	{"kube-scheduler", []Flag{
		clientBurst,
		clientRate,
		verbosity,
	}},
	{"kube-proxy", []Flag{
		clientBurst,
		clientRate,
		{"nodeport-addresses", "on which of the machine's networks NodePorts answer, if not on all", "192.168.7.0/24", networks},
		verbosity,
	}},
	{"kubelet", []Flag{
		{"container-log-max-files", "log files of each container, on a small or large disk", "5", whole(2, 100)},
		{"container-log-max-size", "size of each of them", "5Mi", size("64Ki", "1Gi")},
		{"event-burst", "events at once", "20", whole(1, 1000)},
		{"event-qps", "events a second", "10", whole(1, 1000)},
		{"eviction-hard", "what must be left of memory and disk; signals that it does not name stay as they are", "memory.available<200Mi,nodefs.available<10%", pairs("<", signals, threshold, "nodefs.available<10%")},
		{"eviction-max-pod-grace-period", "seconds that a pod has to end after a soft eviction", "30", whole(0, 3600)},
		{"eviction-minimum-reclaim", "how much an eviction makes free beyond the threshold", "nodefs.available=500Mi", pairs("=", signals, threshold, "nodefs.available=500Mi")},
		{"eviction-pressure-transition-period", "how long until new pods are taken again after there is room", "5m", period(time.Second, time.Hour)},
		{"eviction-soft", "what should be left for longer than a grace period", "memory.available<300Mi", pairs("<", signals, threshold, "memory.available<300Mi")},
		{"eviction-soft-grace-period", "that period, for each signal", "memory.available=2m", pairs("=", signals, grace, "memory.available=2m")},
		{"feature-gates", "features that are off by default and change no check", "MemoryQoS=true", gates("MemoryQoS", "ReduceDefaultCrashLoopBackOffDecay")},
		{"image-gc-high-threshold", "percent of the disk in use from which unused images are removed; 100 is never", "70", whole(2, 100)},
		{"image-gc-low-threshold", "percent of the disk in use down to which they are removed", "60", whole(1, 99)},
		{"kernel-memcg-notification", "the kernel reports that memory is short, in place of a look every 10 seconds", "true", truth},
		clientBurst,
		clientRate,
		{"kube-reserved", "what containerd and the kubelet need; resources that it does not name stay as they are", "cpu=200m,memory=200Mi", pairs("=", resources, reserved, "memory=200Mi")},
		{"max-pods", "pods on this machine; it has 254 addresses for them", "30", whole(1, 250)},
		{"minimum-image-ttl-duration", "how long an unused image stays", "24h", period(0, 10000*time.Hour)},
		{"pod-max-pids", "processes and threads of each pod", "2048", whole(16, 16384)},
		{"pods-per-core", "pods on each processor; 0 is any number", "20", whole(0, 250)},
		{"registry-burst", "images that are pulled at once", "5", whole(1, 1000)},
		{"registry-qps", "images that are pulled in a second", "2", whole(1, 1000)},
		{"runtime-request-timeout", "how long containerd may take for an answer, on a slow disk", "5m", period(30*time.Second, time.Hour)},
		{"serialize-image-pulls", "one image is pulled at a time, for a slow network", "true", truth},
		{"streaming-connection-idle-timeout", "how long kubectl exec and port-forward may be idle", "1h", period(time.Minute, 4*time.Hour)},
		{"system-reserved", "what the system outside of the pods' domain needs; resources that it does not name stay as they are", "memory=500Mi,pid=1000", pairs("=", resources, reserved, "memory=500Mi")},
		verbosity,
		{"volume-stats-agg-period", "how often the use of volumes is counted, on a slow disk", "5m", period(10*time.Second, 24*time.Hour)},
	}},
}
