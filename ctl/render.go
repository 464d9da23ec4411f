package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Forms of an answer.
const (
	asTable = "table"
	asWide  = "wide" // asTable, and options.wide
	asJSON  = "json"
	asYAML  = "yaml"
)

// table is an answer for people. Headers are one word in capitals each: scripts
// count columns by them.
type table struct {
	header []string
	rows   [][]string
	narrow int // how many columns are shown unless all are asked for; 0: all
}

// narrowed returns t without the columns that are shown in a wide table only.
func (t table) narrowed() table {
	if t.narrow == 0 {
		return t
	}
	out := table{header: t.header[:t.narrow]}
	for _, row := range t.rows {
		out.add(row[:t.narrow]...)
	}
	return out
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	columns := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(columns, strings.Join(t.header, "\t"))
	for _, row := range t.rows {
		for i, cell := range row {
			if row[i] = printable(cell); cell == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(columns, strings.Join(row, "\t"))
	}
	return columns.Flush()
}

// show prints an answer in the form that was asked for.
func (a *app) show(answer proto.Message, people func() table) error {
	if a.output == asTable {
		t := people()
		if !a.wide {
			t = t.narrowed()
		}
		return t.write(a.stdout)
	}
	b, err := toJSON(answer)
	if err != nil {
		return err
	}
	return a.showJSON(b)
}

// showJSON prints JSON, or the same as YAML.
func (a *app) showJSON(b []byte) error {
	if a.output == asYAML {
		return writeYAML(a.stdout, b)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := out.WriteTo(a.stdout)
	return err
}

// toJSON returns a message as one line. protojson puts spaces in at random, so
// that nobody relies on its bytes; here they shall be the same every time.
func toJSON(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	var out bytes.Buffer
	err = json.Compact(&out, b)
	return out.Bytes(), err
}

// writeYAML prints JSON, which is YAML of another style, as YAML.
func writeYAML(w io.Writer, b []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return err
	}
	plain(&doc)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&doc); err != nil {
		return err
	}
	return e.Close()
}

// bare is a string that every reader of YAML takes for a string, those of YAML 1.1
// included, except for its words of truth.
var (
	bare  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9 ._/-]*$`)
	truth = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null)$`)
)

// plain takes JSON's style away from all but strings that need their quotes.
func plain(n *yaml.Node) {
	if n.Tag != "!!str" || bare.MatchString(n.Value) && !truth.MatchString(n.Value) {
		n.Style = 0
	}
	for _, c := range n.Content {
		plain(c)
	}
}

// printable makes a machine's text safe to show: nothing in it reaches the
// terminal as a command.
func printable(s string) string {
	if strings.IndexFunc(s, harmful) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if harmful(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func harmful(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsGraphic(r) }

// printableLine is printable for a whole line, which may have tabs.
func printableLine(s string) string {
	parts := strings.Split(s, "\t")
	for i := range parts {
		parts[i] = printable(parts[i])
	}
	return strings.Join(parts, "\t")
}

// Cells.

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func decimal[N int32 | uint32 | int64 | uint64](n N) string { return fmt.Sprint(n) }

// list writes several values in one cell.
func list(values []string) string { return strings.Join(values, ",") }

// size writes bytes with binary prefixes: 512B, 1.5KiB, 64MiB.
func size[N int64 | uint64](n N) string {
	const prefixes = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%dB", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1023.5 && i < len(prefixes)-1 {
		v, i = v/1024, i+1
	}
	if v < 9.95 {
		return strings.Replace(fmt.Sprintf("%.1f%ciB", v, prefixes[i]), ".0", "", 1)
	}
	return fmt.Sprintf("%.0f%ciB", v, prefixes[i])
}

// span writes a duration in its two largest units: 3d4h, 5m12s, 120ms.
func span(d time.Duration) string {
	units := []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	if d < time.Second {
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	for i, u := range units {
		if d < u.unit {
			continue
		}
		out := fmt.Sprintf("%d%s", d/u.unit, u.name)
		if i+1 < len(units) {
			if rest := d % u.unit / units[i+1].unit; rest > 0 {
				out += fmt.Sprintf("%d%s", rest, units[i+1].name)
			}
		}
		return out
	}
	panic("BUG: a duration without a unit")
}

func millis(n int64) string { return span(time.Duration(n) * time.Millisecond) }

// moment writes a point in time; zero is never.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func seconds(unix int64) string {
	if unix == 0 {
		return ""
	}
	return moment(time.Unix(unix, 0))
}
