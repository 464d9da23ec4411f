package extraargs

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// whole wants a whole number.
func whole(least, most int) check {
	return func(value string) string {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most || strconv.Itoa(n) != value {
			return fmt.Sprintf("a whole number from %d to %d", least, most)
		}
		return ""
	}
}

// number is the value of one that whole has taken.
func number(value string) int {
	n, _ := strconv.Atoi(value)
	return n
}

func truth(value string) string {
	if value != "true" && value != "false" {
		return "true or false"
	}
	return ""
}

// period wants a duration as Go writes it.
func period(least, most time.Duration) check {
	return func(value string) string {
		d, err := time.ParseDuration(value)
		if err != nil || d < least || d > most {
			return fmt.Sprintf("a duration from %s to %s, such as 90s or 1h30m", short(least), short(most))
		}
		return ""
	}
}

// short leaves out the zeros of 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ratio wants a number from 0 to 1.
func ratio(value string) string {
	if f, err := strconv.ParseFloat(value, 64); err != nil || !(f >= 0 && f <= 1) {
		return "a number from 0 to 1, such as 0.1"
	}
	return ""
}

// amount is a quantity of memory or disk as Kubernetes writes it, in whole bytes.
var amount = regexp.MustCompile(`^[1-9][0-9]{0,8}(k|M|G|T|Ki|Mi|Gi|Ti)?$`)

var units = map[string]int64{"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}

// size wants an amount of bytes.
func size(least, most string) check {
	return func(value string) string {
		n := bytes(value)
		if n < bytes(least) || n > bytes(most) {
			return fmt.Sprintf("a size from %s to %s", least, most)
		}
		return ""
	}
}

// bytes are -1 for what is no amount.
func bytes(value string) int64 {
	m := amount.FindStringSubmatch(value)
	if m == nil {
		return -1
	}
	n, _ := strconv.ParseInt(strings.TrimSuffix(value, m[1]), 10, 64)
	return n * units[m[1]]
}

// pairs wants entries with a key of a set, each once, and a value that fits.
func pairs(separator string, keys []string, fits func(key, value string) bool, example string) check {
	want := fmt.Sprintf("entries such as %s, separated by commas; their names are %s", example, strings.Join(keys, ", "))
	return func(value string) string {
		all := Pairs(value, separator)
		if len(all) == 0 || len(all) != strings.Count(value, ",")+1 {
			return want
		}
		for i, p := range all {
			if !slices.Contains(keys, p.Key) || has(all[:i], p.Key) || !fits(p.Key, p.Value) {
				return want
			}
		}
		return ""
	}
}

// signals are what the kubelet evicts pods for.
var signals = []string{"memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree", "pid.available"}

// threshold takes a part of the whole, or an amount.
func threshold(_, value string) bool {
	if text, ok := strings.CutSuffix(value, "%"); ok {
		f, err := strconv.ParseFloat(text, 64)
		return err == nil && f > 0 && f < 100
	}
	return amount.MatchString(value)
}

// grace takes the time for which a soft threshold must have been met.
func grace(_, value string) bool { return period(time.Second, 24*time.Hour)(value) == "" }

var processors = regexp.MustCompile(`^([0-9]{1,6}m|[0-9]{1,3}(\.[0-9]{1,3})?)$`)

// reserved takes what is kept from pods: processors, bytes, or processes.
func reserved(key, value string) bool {
	switch key {
	case "cpu":
		return processors.MatchString(value)
	case "pid":
		return whole(1, 1<<20)(value) == ""
	}
	return amount.MatchString(value)
}

var resources = []string{"cpu", "memory", "ephemeral-storage", "pid"}

// gates wants feature gates of a list, since a gate can turn a check off.
func gates(known ...string) check {
	return pairs("=", known, func(_, value string) bool { return truth(value) == "" }, known[0]+"=true")
}

var groupVersion = regexp.MustCompile(`^[a-z0-9.-]{1,100}/v[0-9]{1,2}((alpha|beta)[0-9]{1,2})?=true$`)

// apis wants versions of API groups to be served. None can be turned off: admission
// policies are served by one.
func apis(value string) string {
	for entry := range strings.SplitSeq(value, ",") {
		if !groupVersion.MatchString(entry) {
			return "versions of API groups to serve, such as resource.k8s.io/v1beta1=true, separated by commas"
		}
	}
	return ""
}

// networks wants "primary" or a list of IPv4 networks.
func networks(value string) string {
	if value == "primary" {
		return ""
	}
	for entry := range strings.SplitSeq(value, ",") {
		if p, err := netip.ParsePrefix(entry); err != nil || !p.Addr().Is4() || p.Masked() != p {
			return "primary, or IPv4 networks such as 192.168.7.0/24, separated by commas"
		}
	}
	return ""
}
