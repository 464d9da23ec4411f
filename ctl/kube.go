package main

import "github.com/dactyl-os/dactyl/ipc/kube"

func kubeTable(r *kube.GetStatusResponse) table {
	t := table{header: []string{"CONFIGURED", "MESSAGE"}}
	t.add(yes(r.Configured), r.Message)
	return t
}
