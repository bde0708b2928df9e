package tap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/windrose-edc/windrose/internal/event"
)

// Spec is the section tap of the configuration: how much a tap may see. Immutable after it is read.
type Spec struct {
	Taps    int           `yaml:"taps" default:"8" min:"0" max:"64" doc:"Taps at once; 0: none."`
	For     time.Duration `yaml:"for" default:"5m" min:"1s" doc:"How long a tap lasts at most; then it must be asked for again."`
	Rate    int           `yaml:"rate" default:"1000" min:"1" max:"100000" doc:"Events per second that one tap records; what it would want beyond is counted."`
	Payload int64         `yaml:"payload" unit:"size" default:"1KiB" doc:"How much of a payload is shown to a tap that asks for payloads; 0: nothing of it."`
	Fields  []string      `yaml:"redact_fields" single:"true" doc:"Names whose values a tap never shows, in any case: members of JSON payloads at any depth, headers, and client and user of an event. Besides password, passwd, secret, token, authorization and api_key, which are never shown." example:"[patient, user]"`
	Topics  []string      `yaml:"redact_topics" unit:"filter" single:"true" doc:"Filters of topics whose payloads and headers a tap never shows." example:"site/+/secret/#"`
}

// Validate says what is wrong with a specification.
func (s *Spec) Validate() error {
	_, err := newRules(*s)
	return err
}

// redacted stands where a value was.
const redacted = "[redacted]"

// always are the names that are redacted whatever the configuration says.
func always() []string {
	return []string{"password", "passwd", "secret", "token", "authorization", "api_key"}
}

// rules is what a tap may show. Immutable after newRules.
type rules struct {
	spec         Spec
	names        []string // lower case
	topics       [][]byte
	client, user bool
}

func newRules(s Spec) (*rules, error) {
	if s.Taps < 0 || s.Taps > 64 {
		return nil, errors.New("taps: want 0 to 64")
	}
	if s.For <= 0 {
		s.For = 5 * time.Minute
	}
	if s.Rate <= 0 {
		s.Rate = 1000
	}
	s.Payload = min(max(s.Payload, 0), captureMax)
	r := &rules{spec: s, names: always()}
	for _, f := range s.Fields {
		r.names = append(r.names, strings.ToLower(strings.TrimPrefix(f, "payload.")))
	}
	r.client, r.user = slices.Contains(r.names, "client"), slices.Contains(r.names, "user")
	for _, f := range s.Topics {
		if !event.ValidFilter([]byte(f)) {
			return nil, fmt.Errorf("redact_topics: %q is not a topic filter", f)
		}
		r.topics = append(r.topics, []byte(f))
	}
	return r, nil
}

func (r *rules) hides(name string) bool { return slices.Contains(r.names, strings.ToLower(name)) }

// finish makes what is given out of a record: names that are hidden, and the payload where it was asked for.
func (r *rules) finish(rec *Record, payload bool) {
	raw := rec.raw
	rec.raw = nil
	if r.client && rec.Client != "" {
		rec.Client = redacted
	}
	if r.user && rec.User != "" {
		rec.User = redacted
	}
	for i := range rec.Steps {
		if s := &rec.Steps[i]; r.client && s.Kind == KindSession && s.Name != "" {
			s.Name = redacted
		}
	}
	if !payload || raw == nil {
		return
	}
	if r.hidden(rec) {
		rec.Withheld = "the topic is redacted"
		return
	}
	r.headers(rec, raw.meta)
	switch {
	case r.spec.Payload == 0:
		rec.Withheld = "the configuration shows none"
	case raw.payload == nil:
		rec.Withheld = "too large to be looked at"
	default:
		r.payload(rec, raw.payload)
	}
}

// hidden says whether any topic that the event had is redacted: a rewrite does not uncover it.
func (r *rules) hidden(rec *Record) bool {
	topics := []string{rec.Topic}
	for _, s := range rec.Steps {
		if s.Topic != "" {
			topics = append(topics, s.Topic)
		}
	}
	for _, t := range topics {
		if r.covers([]byte(t)) {
			return true
		}
	}
	return false
}

// covers says whether a topic is redacted.
func (r *rules) covers(topic []byte) bool {
	for _, f := range r.topics {
		if event.Match(f, topic) {
			return true
		}
	}
	return false
}

func (r *rules) headers(rec *Record, meta []byte) {
	for len(meta) > 0 {
		it, rest, ok := event.NextMeta(meta)
		if !ok {
			return
		}
		meta = rest
		switch it.ID {
		case event.MetaContentType:
			rec.ContentType = string(it.Value)
		case event.MetaHeader:
			if len(rec.Headers) >= 64 {
				rec.Truncated = true
				continue
			}
			h := Meta{Name: string(it.Key), Value: string(it.Value[:min(len(it.Value), 1024)])}
			if r.hides(h.Name) {
				h.Value = redacted
			}
			rec.Headers = append(rec.Headers, h)
		}
	}
}

func (r *rules) payload(rec *Record, b []byte) {
	if t := bytes.TrimLeft(b, " \t\r\n"); len(t) > 0 && (t[0] == '{' || t[0] == '[') {
		out, err := r.redactJSON(b)
		if err != nil {
			rec.Withheld = "it begins like JSON and cannot be read as JSON, so nothing in it can be redacted"
			return
		}
		b = out
	}
	text := utf8.Valid(b)
	if int64(len(b)) > r.spec.Payload {
		b, rec.Truncated = b[:r.spec.Payload], true
		for text && !utf8.Valid(b) { // the cut was within a character
			b = b[:len(b)-1]
		}
	}
	if text {
		s := string(b)
		rec.Payload = &s
		return
	}
	rec.PayloadBase64 = b
}

// redactJSON copies a JSON text but for the values of hidden names. Order, numbers and white space stay as they are.
func (r *rules) redactJSON(b []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var out []byte
	from := 0
	// For each level: whether it is an object, and whether a key comes next.
	type level struct{ object, key bool }
	var stack []level
	value := func() {
		if n := len(stack); n > 0 && stack[n-1].object {
			stack[n-1].key = true
		}
	}
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			if len(stack) > 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return append(out, b[from:]...), nil
		}
		if err != nil {
			return nil, err
		}
		switch tok {
		case json.Delim('{'):
			stack = append(stack, level{object: true, key: true})
			continue
		case json.Delim('['):
			stack = append(stack, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
			value()
			continue
		}
		n := len(stack)
		if n == 0 || !stack[n-1].object || !stack[n-1].key {
			value()
			continue
		}
		stack[n-1].key = false
		if name, ok := tok.(string); ok && r.hides(name) {
			at := int(d.InputOffset())
			var skip json.RawMessage
			if err := d.Decode(&skip); err != nil {
				return nil, err
			}
			out = append(append(out, b[from:at]...), `:"`+redacted+`"`...)
			from = int(d.InputOffset())
			value()
		}
	}
}
