package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// fakeKernel answers with each text once, and then ends the test's run.
type fakeKernel struct {
	texts []string
	end   func()
}

func (k *fakeKernel) memoryPressure() (string, error) {
	if len(k.texts) == 0 {
		return "", errors.New("read memory pressure: no such device")
	}
	text := k.texts[0]
	k.texts = k.texts[1:]
	if len(k.texts) == 0 {
		k.end()
	}
	return text, nil
}

func TestWatchTellsOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var log bytes.Buffer
	w := &watch{
		kernel: &fakeKernel{[]string{"some avg10=12.00 x\n", "some avg10=13.00 x\n", "some avg10=0.00 x\n"}, cancel},
		log:    slog.New(slog.NewTextHandler(&log, nil)),
	}
	if err := w.run(ctx, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "memory is short") || !strings.Contains(got, "enough again") {
		t.Errorf("log:\n%s", got)
	}
}

func TestAKernelThatFailsEndsTheWatch(t *testing.T) {
	w := &watch{kernel: &fakeKernel{}, log: slog.New(slog.DiscardHandler)}
	if err := w.run(t.Context(), time.Millisecond); err == nil {
		t.Error("the error was swallowed")
	}
}
