package vm

import (
	"context"
	"encoding/json"
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

func (q *qmp) execute(ctx context.Context, command string, arguments map[string]any) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", q.path)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	answers := json.NewDecoder(c)
	var greeting map[string]any
	if err := answers.Decode(&greeting); err != nil {
		return fmt.Errorf("QMP greeting: %w", err)
	}
	for _, request := range []map[string]any{{"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}} {
		if request["arguments"] == nil || len(arguments) == 0 {
			delete(request, "arguments")
		}
		if err := json.NewEncoder(c).Encode(request); err != nil {
			return err
		}
		var a qmpAnswer
		for a.Return == nil && a.Error == nil { // events come in between
			if err := answers.Decode(&a); err != nil {
				return fmt.Errorf("QMP %s: %w", request["execute"], err)
			}
		}
		if a.Error != nil {
			return fmt.Errorf("QMP %s: %s", request["execute"], a.Error.Desc)
		}
	}
	return nil
}
