package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
)

// qmp speaks QEMU's machine protocol, one connection per command.
type qmp struct{ path string }

type qmpAnswer struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

// execute runs a command whose result is not needed.
func (q *qmp) execute(ctx context.Context, command string, arguments map[string]any) error {
	return q.query(ctx, command, arguments, nil)
}

// query runs a command and decodes its result into result, unless that is nil.
func (q *qmp) query(ctx context.Context, command string, arguments map[string]any, result any) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", q.path)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	answers := json.NewDecoder(c)
	var greeting map[string]any
	if err := answers.Decode(&greeting); err != nil {
		return fmt.Errorf("QMP greeting: %w", errors.Join(err, ctx.Err()))
	}
	var last qmpAnswer
	for _, request := range []map[string]any{{"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}} {
		if request["arguments"] == nil || len(arguments) == 0 {
			delete(request, "arguments")
		}
		if err := json.NewEncoder(c).Encode(request); err != nil {
			return err
		}
		last = qmpAnswer{}
		for last.Return == nil && last.Error == nil { // events come in between
			if err := answers.Decode(&last); err != nil {
				return fmt.Errorf("QMP %s: %w", request["execute"], errors.Join(err, ctx.Err()))
			}
		}
		if last.Error != nil {
			return fmt.Errorf("QMP %s: %s", request["execute"], last.Error.Desc)
		}
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(last.Return, result)
}
