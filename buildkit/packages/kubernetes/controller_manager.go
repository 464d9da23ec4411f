package main

import (
	_ "time/tzdata" // the time zones of CronJobs; the image has no /usr/share/zoneinfo

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func controllerManager() int { return cli.Run(app.NewControllerManagerCommand()) }
