package main

import (
	"fmt"
	"math/bits"
	"time"

	"golang.org/x/sys/unix"
)

// clock is the kernel's clock.
type clock interface {
	now() time.Time
	step(by time.Duration) error
	// slew has the kernel take the offset away little by little; poll is how long
	// it is until the next measurement.
	slew(by, poll time.Duration) error
}

type kernelClock struct{}

func (kernelClock) now() time.Time { return time.Now() }

// step adds to the clock in one call, so that no time passes between reading it
// and setting it.
func (kernelClock) step(by time.Duration) error {
	seconds, ns := by/time.Second, by%time.Second
	if ns < 0 { // the kernel wants the fraction positive
		seconds, ns = seconds-1, ns+time.Second
	}
	t := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO, Time: unix.Timeval{Sec: int64(seconds), Usec: int64(ns)}}
	if _, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &t); err != nil {
		return fmt.Errorf("step the clock by %v: %w", by, err)
	}
	return synchronize(0, firstPoll)
}

func (kernelClock) slew(by, poll time.Duration) error {
	if err := synchronize(by, poll); err != nil {
		return fmt.Errorf("slew the clock by %v: %w", by, err)
	}
	return nil
}

// synchronize hands the kernel's phase-locked loop an offset and tells it that the
// clock is in good hands, so that it keeps the clock on the board right too. The
// time constant is the poll interval's power of two less 4, as in ntpd with STA_NANO.
func synchronize(offset, poll time.Duration) error {
	power := bits.Len(uint(poll/time.Second)) - 1
	t := unix.Timex{
		Modes:    unix.ADJ_OFFSET | unix.ADJ_STATUS | unix.ADJ_TIMECONST | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR | unix.ADJ_NANO,
		Status:   unix.STA_PLL,
		Offset:   int64(offset),
		Constant: int64(max(power-4, 0)),
	}
	_, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &t)
	return err
}
