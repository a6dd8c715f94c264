package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"vol-1":               `vol-1`,
		"":                    ``,
		"naïve/卷 1":           `naïve/卷 1`,
		"two\nlines\t\r":      `two\nlines\t\r`,
		"\x1b[31mred\x07":     `\x1b[31mred\a`,
		`back\slash`:          `back\\slash`,
		"\xff\xfe":            `\xff\xfe`,
		"abc\u202edef":        `abc\u202edef`,        // turns the reading direction
		"zero\u200bwidth":     `zero\u200bwidth`,     // not to be seen
		"\u0085\u2028\x7f":    `\u0085\u2028\x7f`,    // line ends of other kinds
		"\U000e0041tag":       `\U000e0041tag`,       // not to be seen either
		"\u00a0nobreak\u3000": `\u00a0nobreak\u3000`, // look like spaces
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %s, want %s", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("vol-1")
	f.Add("a\nb\x1b[31m\\\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if strings.ContainsAny(got, "\n\r\t\x1b\x00") || got != cli.Harmless(got) {
			t.Errorf("printable(%q) = %q is not", s, got)
		}
		if q := quoted(s); strings.ContainsAny(q, "\n\r\t\x1b\x00") {
			t.Errorf("quoted(%q) = %q does something to a terminal", s, q)
		}
	})
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                  "0s",
		0:                             "0s",
		999 * time.Millisecond:        "0s",
		119 * time.Second:             "119s",
		2 * time.Minute:               "2m",
		2*time.Minute + 3*time.Second: "2m3s",
		15 * time.Minute:              "15m",
		3 * time.Hour:                 "3h",
		25*time.Hour + 30*time.Minute: "25h30m",
		49 * time.Hour:                "2d1h",
		100 * 24 * time.Hour:          "100d",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%s) = %s, want %s", d, got, want)
		}
	}
	if got := age(time.Time{}); got != "<unknown>" {
		t.Errorf("age of no time = %s", got)
	}
}

func TestShortDuration(t *testing.T) {
	for _, want := range []string{"30s", "5m", "168h", "1h30m", "1m30s", "1.5s"} {
		d, err := time.ParseDuration(want)
		if err != nil {
			t.Fatal(err)
		}
		if got := shortDuration(d); got != want {
			t.Errorf("shortDuration = %s, want %s", got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	table := newTable(&out, "VOLUME", "NODE")
	table.row("a\nlong one", "node-1")
	table.row("b", "")
	table.flush()
	want := "VOLUME        NODE\n" +
		`a\nlong one   node-1` + "\n" +
		"b             <none>\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// The shape that scripts rely on. A change here is a change of the interface.
func TestViews_Shape(t *testing.T) {
	at := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	left := 12.0
	for _, test := range []struct {
		view any
		want string
	}{
		{viewHold(state.Hold{Volume: "v", Cluster: "c", Node: "n", Mode: state.Exclusive, Since: at, Token: 7, Revision: 7, Broken: errors.New("b")}),
			`{"volume":"v","cluster":"c","node":"n","mode":"exclusive","since":"2026-08-01T12:00:00Z","token":7,"revision":7,"lapsed":false,"broken":"b"}`},
		{attachmentView{Attachment: state.Attachment{Volume: "v", Cluster: "c", Node: "n", Mode: state.Shared, Since: at, Token: 7, Lease: 8, CreateRevision: 7, ModRevision: 9}, LeftSeconds: &left},
			`{"volume":"v","cluster":"c","node":"n","mode":"shared","since":"2026-08-01T12:00:00Z","token":7,"lease":"8","createRevision":7,"modRevision":9,"leftSeconds":12}`},
		{viewDetachment(state.Detachment{Volume: "v", Cluster: "c", Node: "n", Mode: state.Exclusive, Token: 7, At: at, Grace: 1500 * time.Millisecond, Reason: "r", Lease: 8, ModRevision: 9}),
			`{"volume":"v","cluster":"c","node":"n","mode":"exclusive","token":7,"at":"2026-08-01T12:00:00Z","reason":"r","lease":"8","modRevision":9,"graceSeconds":1.5}`},
		{viewMigration(state.Migration{Volume: "v", Source: state.Place{Cluster: "c", Node: "n"}, Target: state.Place{Cluster: "c", Node: "m"}, SourceToken: 1, TargetToken: 2, Since: at, Deadline: at, Lease: 8, Revision: 9}),
			`{"volume":"v","source":{"cluster":"c","node":"n"},"target":{"cluster":"c","node":"m"},"sourceToken":1,"targetToken":2,"since":"2026-08-01T12:00:00Z","deadline":"2026-08-01T12:00:00Z","lease":"8","revision":9}`},
		{viewEntry(state.Entry{ID: "i", Cluster: "c", At: at, Action: state.ActionRemoved, Volume: "v", Node: "n", Reason: "NodeGone", Evidence: &state.Evidence{Fenced: true}, ModRevision: 9}),
			`{"id":"i","cluster":"c","at":"2026-08-01T12:00:00Z","action":"removed","volume":"v","node":"n","reason":"NodeGone","evidence":{"fenced":true},"modRevision":9}`},
		{itemsOf[listRow](nil), `{"items":[]}`},
	} {
		var out bytes.Buffer
		if err := printJSON(&out, test.view, ""); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want+"\n", out.String()); diff != "" {
			t.Errorf("%T (-want +got):\n%s", test.view, diff)
		}
	}
}

// What looks like something else to YAML comes back as it went in.
func TestYAML_SaysWhatJSONSays(t *testing.T) {
	for _, volume := range []string{"yes", "1e3", "0x10", "~", "null", "a: b", "- x", "\n", "\x1b", "'", "#", " lead", "token\u202e"} {
		row := listRow{Volume: volume, Token: state.NewToken(65535, 1<<40)}
		var asJSON, asYAML bytes.Buffer
		if err := errors.Join(printJSON(&asJSON, row, ""), printYAML(&asYAML, row)); err != nil {
			t.Fatal(err)
		}
		back, err := yaml.YAMLToJSON(asYAML.Bytes())
		if err != nil {
			t.Fatalf("volume %q: %v in\n%s", volume, err, asYAML.String())
		}
		var one, two listRow
		if err := errors.Join(json.Unmarshal(asJSON.Bytes(), &one), json.Unmarshal(back, &two)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(one, two); diff != "" || one.Volume != volume {
			t.Errorf("volume %q (-JSON +YAML):\n%s", volume, diff)
		}
	}
}
