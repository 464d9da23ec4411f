// Package one_machine runs those scenarios on one machine without a cluster that leave it
// as they found it: booting it takes longer than most of them do.
package one_machine

import (
	"os"
	"testing"

	"github.com/dactyl-os/dactyl/test/boot/confinement"
	"github.com/dactyl-os/dactyl/test/boot/escape"
	"github.com/dactyl-os/dactyl/test/boot/hang_daemon"
	"github.com/dactyl-os/dactyl/test/boot/init_survives"
	"github.com/dactyl-os/dactyl/test/boot/kill_each_daemon"
	"github.com/dactyl-os/dactyl/test/boot/query_each_daemon"
	"github.com/dactyl-os/dactyl/test/boot/replace_daemon"
	"github.com/dactyl-os/dactyl/test/vm"
)

// A machine whose PID 1 died would start anew and look well: this one stays down, and
// whatever comes next fails.
var machine = vm.Share(vm.Config{NoReboot: true})

func TestMain(m *testing.M) { os.Exit(machine.Run(m)) }

// The first two look at what a boot has left, before anybody has killed anything.
func TestConfinement(t *testing.T) { confinement.Scenario(t, machine.Get(t)) }

func TestEscape(t *testing.T) { escape.Scenario(t, machine.Get(t)) }

func TestInitSurvives(t *testing.T) { init_survives.Scenario(t, machine.Get(t)) }

func TestHangDaemon(t *testing.T) { hang_daemon.Scenario(t, machine.Get(t)) }

func TestKillEachDaemon(t *testing.T) { kill_each_daemon.Scenario(t, machine.Get(t)) }

func TestReplaceDaemon(t *testing.T) { replace_daemon.Scenario(t, machine.Get(t)) }

// The last: Reboot and Shutdown are methods, too.
func TestQueryEachDaemon(t *testing.T) { query_each_daemon.Scenario(t, machine.Get(t)) }
