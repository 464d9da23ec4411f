package kernel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// leastVersion is the oldest Linux 6.12 that holds what the threat model says. With an older
// one the root of the pods' domain gets from its mount namespace to PID 1's: NS_MNT_GET_NEXT
// and NS_MNT_GET_PREV are new in 6.12, and a backport to this series refuses them outside the
// first PID namespace (fs/nsfs.c: may_see_all_namespaces).
var leastVersion = []int{6, 12, 117}

// checkVersion refuses kernels older than leastVersion. version is what uname -r says.
func checkVersion(version string) error {
	number, _, _ := strings.Cut(version, "-")
	var is []int
	for part := range strings.SplitSeq(number, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return fmt.Errorf("kernel version %q: %w", version, err)
		}
		is = append(is, n)
	}
	if slices.Compare(is, leastVersion) < 0 {
		return fmt.Errorf("the source in %s is Linux %s; at least %s is needed: apt-get update && apt-get install linux-source-6.12",
			sourceTarball, number, strings.Trim(strings.ReplaceAll(fmt.Sprint(leastVersion), " ", "."), "[]"))
	}
	return nil
}
