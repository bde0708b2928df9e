package app

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/tap"
)

// TrialSpec is one test of a configuration, in a *.test.yaml. Immutable after it is read.
type TrialSpec struct {
	Name   string      `yaml:"name" required:"true" doc:"What the test says, in words."`
	Given  GivenSpec   `yaml:"given" required:"true" doc:"An event and who publishes it."`
	Expect *ExpectSpec `yaml:"expect" required:"true" doc:"What becomes of it; what is not written may be anything."`
}

// GivenSpec is the event of a test. Immutable after it is read.
type GivenSpec struct {
	Proto       string            `yaml:"proto" default:"mqtt" doc:"The protocol that the client speaks."`
	Version     string            `yaml:"version" doc:"Its version."`
	Listener    string            `yaml:"listener" doc:"Where the client is connected; the first listener of the protocol when empty."`
	Client      string            `yaml:"client" default:"test" doc:"Client id."`
	User        string            `yaml:"user" doc:"Name of the principal."`
	Attrs       map[string]string `yaml:"attrs" doc:"Attributes of the principal."`
	Address     string            `yaml:"address" doc:"Where the client comes from, without port."`
	Topic       string            `yaml:"topic" required:"true" unit:"topic" doc:"Topic, as the client says it."`
	QoS         int               `yaml:"qos" default:"1" min:"0" max:"2" doc:"The promise that the client asks for."`
	Retain      bool              `yaml:"retain" doc:"Whether the event is to be kept."`
	JSON        *JSONValue        `yaml:"json" doc:"The payload, as a value that is written as JSON."`
	Text        *string           `yaml:"text" doc:"The payload as text."`
	Base64      *string           `yaml:"base64" doc:"The payload in base64."`
	ContentType string            `yaml:"content_type" doc:"Content type of the payload."`
	Headers     map[string]string `yaml:"headers" doc:"Headers (user properties)."`
	Pools       map[string]string `yaml:"pools" doc:"What the members of pools answer, in place of accepted: unavailable, bad_payload, ..."`
}

// ExpectSpec is what becomes of the event of a test. Immutable after it is read.
type ExpectSpec struct {
	Denied  string               `yaml:"denied" doc:"The policy that refuses or drops the event: acl, limit, topic_guard, rewrite:NAME."`
	Routes  *[]string            `yaml:"routes" doc:"The routes that take it, in order."`
	Pools   *map[string]PoolWant `yaml:"pools" doc:"How many events each pool gets; pools that are not named get none."`
	Topic   string               `yaml:"topic" unit:"topic" doc:"Its topic when it is routed."`
	Class   *string              `yaml:"class" doc:"The device class of the client; empty: none."`
	Outcome string               `yaml:"outcome" doc:"What the publisher is told: accepted, no_match, unauthorized, ..."`
}

// Validate wants an expectation that says something and does not contradict itself.
func (s *ExpectSpec) Validate() error {
	if s.Denied == "" && s.Routes == nil && s.Pools == nil && s.Topic == "" && s.Class == nil && s.Outcome == "" {
		return &config.FieldError{Err: errors.New("nothing is expected"), Fix: "write denied, routes, pools, topic, class or outcome"}
	}
	if s.Denied != "" && (s.Routes != nil || s.Pools != nil || s.Topic != "") {
		return &config.FieldError{Path: "denied", Err: errors.New("an event that is denied is not routed"), Fix: "leave out routes, pools and topic"}
	}
	return nil
}

// Validate wants at most one payload.
func (s *GivenSpec) Validate() error {
	n := 0
	for _, there := range []bool{s.JSON != nil, s.Text != nil, s.Base64 != nil} {
		if there {
			n++
		}
	}
	if n > 1 {
		return errors.New("more than one payload: want json, text or base64")
	}
	if s.Base64 != nil {
		if _, err := base64.StdEncoding.DecodeString(*s.Base64); err != nil {
			return &config.FieldError{Path: "base64", Err: fmt.Errorf("not base64: %w", err)}
		}
	}
	return nil
}

// PoolWant is how many events a pool gets. A value.
type PoolWant struct{ Count int }

// ConfigType is what the reference says of the field's type.
func (PoolWant) ConfigType() string { return "number of events" }

// UnmarshalConfig implements config.Unmarshaler.
func (w *PoolWant) UnmarshalConfig(v *config.Value) error {
	if err := v.Decode(&w.Count); err != nil {
		return err
	}
	if w.Count < 0 {
		return v.Fail("a pool cannot get "+strconv.Itoa(w.Count)+" events", "use 0 or more")
	}
	return nil
}

// JSONValue is a value of any shape, as JSON. Immutable after it is read.
type JSONValue struct{ Text []byte }

// ConfigType is what the reference says of the field's type.
func (JSONValue) ConfigType() string { return "any value" }

// UnmarshalConfig implements config.Unmarshaler.
func (j *JSONValue) UnmarshalConfig(v *config.Value) (err error) {
	j.Text, err = appendJSON(nil, v)
	return err
}

func appendJSON(b []byte, v *config.Value) ([]byte, error) {
	switch {
	case v.IsMap():
		pairs, err := v.Map()
		if err != nil {
			return nil, err
		}
		b = append(b, '{')
		for i, p := range pairs {
			if i > 0 {
				b = append(b, ',')
			}
			name, err := json.Marshal(p.Key)
			if err != nil {
				return nil, fmt.Errorf("write a name: %w", err)
			}
			b = append(append(b, name...), ':')
			if b, err = appendJSON(b, p.Value); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	case v.IsList():
		list, err := v.List()
		if err != nil {
			return nil, err
		}
		b = append(b, '[')
		for i, x := range list {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendJSON(b, x); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	}
	s, err := v.JSON()
	return append(b, s...), err
}

// trialSchema is the language of test files.
func trialSchema() *config.Schema {
	return &config.Schema{Bare: true, Sections: []config.Section{
		{Name: "tests", Doc: "What a configuration does with single events.", Shape: config.List, Spec: TrialSpec{}},
	}}
}

// Trial is how one test of a configuration ended. Immutable.
type Trial struct {
	Name     string   `json:"name"`
	File     string   `json:"file"`
	Line     int      `json:"line"`
	OK       bool     `json:"ok"`
	Problems []string `json:"problems,omitempty"` // what was expected, and what happened
	Path     string   `json:"path,omitempty"`     // the decision path, of a test that failed
}

// TestFiles are the test files that belong to files and folders of a configuration: *.test.yaml of a folder, and NAME.test.yaml
// beside NAME.yaml.
func TestFiles(configs ...string) (files []string, err error) {
	for _, name := range configs {
		st, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("look for tests: %w", err)
		}
		if st.IsDir() {
			found, err := filepath.Glob(filepath.Join(name, "*.test.yaml"))
			if err != nil {
				return nil, fmt.Errorf("look for tests: %w", err)
			}
			files = append(files, found...)
			continue
		}
		beside := strings.TrimSuffix(name, ".yaml") + ".test.yaml"
		if _, err := os.Stat(beside); err == nil {
			files = append(files, beside)
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// Try runs the tests of test files against a configuration, each by the path of live events (see Explain). The error is
// config.Errors where the files are wrong; a test that fails is none.
func Try(ctx context.Context, configs, tests []string) (out []Trial, err error) {
	snap, err := Load(configs...)
	if err != nil {
		return nil, err
	}
	trials, err := trialSchema().Load(tests...)
	if err != nil {
		return nil, err
	}
	d, err := newDesk(ctx, snap)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	for _, e := range trials.Entries("tests") {
		t := e.Spec.(*TrialSpec)
		x := Trial{Name: t.Name, File: e.Pos.File, Line: e.Pos.Line}
		rec, from, err := d.ask(ctx, t.Given.question())
		if err != nil {
			x.Problems = []string{err.Error()}
		} else {
			class := ""
			if from.Class != nil {
				class = from.Class.Name
			}
			x.Problems = append(t.Expect.unknown(snap), t.Expect.compare(&rec, class)...)
			if len(x.Problems) > 0 {
				x.Path = rec.Path()
			}
		}
		x.OK = len(x.Problems) == 0
		out = append(out, x)
	}
	return out, nil
}

func (s *GivenSpec) question() tap.Question {
	q := tap.Question{Protocol: s.Proto, Version: s.Version, Listener: s.Listener, Client: s.Client, User: s.User, Attrs: s.Attrs, Address: s.Address,
		Topic: s.Topic, QoS: s.QoS, Retain: s.Retain, ContentType: s.ContentType, Assume: maps.Clone(s.Pools)}
	switch {
	case s.JSON != nil:
		q.Payload = string(s.JSON.Text)
	case s.Text != nil:
		q.Payload = *s.Text
	case s.Base64 != nil:
		q.PayloadBase64, _ = base64.StdEncoding.DecodeString(*s.Base64) // Validate has read it
	}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		q.Headers = append(q.Headers, tap.Meta{Name: name, Value: s.Headers[name]})
	}
	return q
}

// unknown says which names of the expectation the configuration does not have.
func (s *ExpectSpec) unknown(snap *config.Snapshot) (out []string) {
	check := func(section, what string, names []string) {
		for _, n := range names {
			if !hasEntry(snap, section, n) {
				out = append(out, fmt.Sprintf("expected %s %s, which the configuration does not have", what, n))
			}
		}
	}
	if s.Routes != nil {
		check("routes", "route", *s.Routes)
	}
	if s.Pools != nil {
		check("pools", "pool", slices.Sorted(maps.Keys(*s.Pools)))
	}
	if s.Class != nil && *s.Class != "" {
		check("devices", "device class", []string{*s.Class})
	}
	return out
}

// compare says what the record of an event has otherwise than it is expected.
func (s *ExpectSpec) compare(r *tap.Record, class string) (out []string) {
	fail := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	denied, topic, routes, pools := "", r.Topic, []string{}, map[string]int{}
	why := ""
	for _, x := range r.Steps {
		if x.Topic != "" {
			topic = x.Topic
		}
		switch {
		case x.Step == tap.StepPolicy && (x.Verdict == "reject" || x.Verdict == "drop"):
			denied, why = x.Name, x.Detail
		case x.Step == tap.StepRoute && x.Verdict == "":
			routes = append(routes, x.Name)
		case x.Step == tap.StepTarget && x.Kind == tap.KindPool && x.Verdict == "delivered":
			pools[x.Name]++
		}
	}
	if why != "" {
		why = " (" + why + ")"
	}
	switch {
	case s.Denied != "" && denied == "":
		fail("expected that %s denies it, it was let through", s.Denied)
	case s.Denied != "" && denied != s.Denied:
		fail("expected that %s denies it, %s did%s", s.Denied, denied, why)
	case denied != "" && s.Denied == "" && (s.Routes != nil || s.Pools != nil || s.Topic != ""):
		fail("%s denied it%s", denied, why)
	default:
		if s.Routes != nil && !slices.Equal(*s.Routes, routes) {
			fail("expected routes [%s], got [%s]", strings.Join(*s.Routes, ", "), strings.Join(routes, ", "))
		}
		if s.Topic != "" && s.Topic != topic {
			fail("expected topic %s, got %s", s.Topic, topic)
		}
		if s.Pools != nil {
			names := slices.AppendSeq(slices.Collect(maps.Keys(*s.Pools)), maps.Keys(pools))
			slices.Sort(names)
			for _, n := range slices.Compact(names) {
				if want, got := (*s.Pools)[n].Count, pools[n]; want != got {
					fail("expected pool %s to get %s, it gets %d", n, plural(want, "event", "events"), got)
				}
			}
		}
	}
	if s.Class != nil && *s.Class != class {
		fail("expected device class %q, it is %q", *s.Class, class)
	}
	if s.Outcome != "" && s.Outcome != r.Outcome {
		fail("expected that the publisher is told %s, it is told %s", s.Outcome, r.Outcome)
	}
	return out
}
