package main

import (
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // each component's own requests, in its /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
)
