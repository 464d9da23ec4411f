package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-proxy/app"
)

func proxy() int { return cli.Run(app.NewProxyCommand()) }
