package cloudevents

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/windrose-edc/windrose/internal/event"
)

// ErrInvalid is wrapped by every error of decoding: what was received is not a CloudEvent 1.x. It is the sender's fault.
var ErrInvalid = errors.New("not a valid CloudEvent")

// maxAttributes bounds how many attributes one event may bring.
const maxAttributes = 128

// decoder collects attributes into an event. Owned by one call.
type decoder struct {
	ev      *event.Event
	content string
	seen    map[string]string
}

// FromHTTP reads a request of the HTTP binding into ev: Payload, Meta, and from its attributes Expires, QoS and
// Retain; Topic is the subject where ev has none yet. headers gives every header once, in any order; body and the
// values are borrowed by ev. An event in batched mode or another format than JSON is an error. The content mode is
// found by the content type (section 3).
func FromHTTP(ev *event.Event, headers iter.Seq2[string, string], body []byte) error {
	d := decoder{ev: ev, seen: make(map[string]string)}
	for name, value := range headers {
		if strings.EqualFold(name, "content-type") {
			d.content = value
		}
	}
	if IsStructured(d.content) {
		return FromJSON(ev, d.content, body)
	}
	for name, value := range headers {
		attribute, ok := HTTP.Attribute(name)
		if !ok {
			continue
		}
		value, err := unescape(value)
		if err != nil {
			return fmt.Errorf("%w: attribute %q: %w", ErrInvalid, attribute, err)
		}
		if attribute == "datacontenttype" {
			return fmt.Errorf("%w: ce-datacontenttype beside content-type", ErrInvalid)
		}
		if err := d.set(attribute, value); err != nil {
			return err
		}
	}
	ev.Payload = body
	return d.finish()
}

// FromJSON reads the JSON event format into ev, as FromHTTP does. contentType is that of the message, empty where it is
// implied (MQTT 3.1.1).
func FromJSON(ev *event.Event, contentType string, body []byte) error {
	if contentType != "" {
		media, _, err := mime.ParseMediaType(contentType)
		if err != nil || media != StructuredType {
			return fmt.Errorf("%w: content type %q is not %s", ErrInvalid, contentType, StructuredType)
		}
	}
	if !utf8.Valid(body) {
		return fmt.Errorf("%w: not UTF-8", ErrInvalid)
	}
	d := decoder{ev: ev, seen: make(map[string]string)}
	var data, data64 json.RawMessage
	err := members(body, func(name string, value json.RawMessage) error {
		switch name {
		case "data":
			data = value
			return nil
		case "data_base64":
			data64 = value
			return nil
		}
		s, set, err := scalar(value)
		if err != nil || !set {
			return err
		}
		if name == "datacontenttype" {
			d.content = s
			return nil
		}
		return d.set(name, s)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if ev.Payload, err = d.data(data, data64); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return d.finish()
}

// members calls f for each member of a JSON object; a name that comes twice is an error, for two readers could choose
// differently.
func members(body []byte, f func(name string, value json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	seen := make(map[string]bool)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return errors.New("malformed JSON")
		}
		name, _ := t.(string)
		if seen[name] {
			return fmt.Errorf("member %q comes twice", name)
		}
		if len(seen) >= maxAttributes {
			return errors.New("too many attributes")
		}
		seen[name] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return errors.New("malformed JSON")
		}
		if err := f(name, value); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return errors.New("malformed JSON")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something after the JSON object")
	}
	return nil
}

// scalar is the canonical string of an attribute's value (JSON event format, section 2.2); null is unset.
func scalar(v json.RawMessage) (s string, set bool, err error) {
	switch {
	case string(v) == "null":
		return "", false, nil
	case string(v) == "true" || string(v) == "false":
		return string(v), true, nil
	case len(v) > 0 && v[0] == '"':
		if err := json.Unmarshal(v, &s); err != nil {
			return "", false, errors.New("malformed JSON")
		}
		return s, true, nil
	}
	if _, err := strconv.ParseInt(string(v), 10, 32); err != nil {
		return "", false, errors.New("an attribute is neither text, boolean nor a 32-bit integer")
	}
	return string(v), true, nil
}

// data is the payload (JSON event format, section 3.1.2).
func (d *decoder) data(data, data64 json.RawMessage) ([]byte, error) {
	switch {
	case data != nil && data64 != nil:
		return nil, errors.New("both data and data_base64")
	case data64 != nil:
		var s string
		if err := json.Unmarshal(data64, &s); err != nil {
			return nil, errors.New("data_base64 is not text")
		}
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil, errors.New("data_base64 is not base64")
		}
		return b, nil
	case data == nil:
		return nil, nil
	}
	if d.content == "" {
		d.content = "application/json"
	}
	media, _, err := mime.ParseMediaType(d.content)
	if err != nil {
		return nil, errors.New("datacontenttype is not a media type")
	}
	if isJSON(media) {
		return data, nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, errors.New("data is not text, as its content type says")
	}
	return []byte(s), nil
}

// set takes one attribute.
func (d *decoder) set(name, value string) error {
	switch {
	case !isName(name):
		return fmt.Errorf("%w: attribute name %q", ErrInvalid, name)
	case !isString(value):
		return fmt.Errorf("%w: attribute %q holds control characters or is not UTF-8", ErrInvalid, name)
	case len(d.seen) >= maxAttributes:
		return fmt.Errorf("%w: too many attributes", ErrInvalid)
	}
	if _, twice := d.seen[name]; twice {
		return fmt.Errorf("%w: attribute %q comes twice", ErrInvalid, name)
	}
	d.seen[name] = value
	return nil
}

// finish checks the attributes and writes them into the event.
func (d *decoder) finish() error {
	for _, name := range []string{"specversion", "id", "source", "type"} {
		if d.seen[name] == "" {
			return fmt.Errorf("%w: attribute %q is missing", ErrInvalid, name)
		}
	}
	if !strings.HasPrefix(d.seen["specversion"], "1.") {
		return fmt.Errorf("%w: specversion is not 1.x", ErrInvalid)
	}
	ev := d.ev
	ev.Meta = nil
	ok := true
	if d.content != "" {
		ev.Meta, ok = event.AppendMeta(ev.Meta, event.MetaContentType, d.content)
	}
	// The required ones first, the others sorted: the same CloudEvent always becomes the same event.
	for _, name := range order(d.seen) {
		var fits bool
		ev.Meta, fits = event.AppendHeader(ev.Meta, name, d.seen[name])
		ok = ok && fits
	}
	if !ok {
		return fmt.Errorf("%w: an attribute is longer than 65535 bytes", ErrInvalid)
	}
	if len(ev.Topic) == 0 {
		ev.Topic = []byte(d.seen["subject"])
	}
	return d.settings()
}

// settings are the attributes that Windrose itself obeys.
func (d *decoder) settings() error {
	ev := d.ev
	if s := d.seen[attrExpiry]; s != "" {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return fmt.Errorf("%w: expirytime is not a timestamp", ErrInvalid)
		}
		ev.Expires = max(1, t.UnixNano()) // 0 would be: never
	}
	if s := d.seen[ExtQoS]; s != "" {
		if len(s) != 1 || s[0] < '0' || s[0] > '2' {
			return fmt.Errorf("%w: %s is not 0, 1 or 2", ErrInvalid, ExtQoS)
		}
		ev.QoS = event.QoS(s[0] - '0')
	}
	ev.Retain = d.seen[ExtRetain] == "true"
	if s := d.seen[ExtReplyTo]; s != "" {
		ev.Meta, _ = event.AppendMeta(ev.Meta, event.MetaReplyTo, s) // its length was checked as a header
	}
	if s := d.seen[ExtCorrelation]; s != "" {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return fmt.Errorf("%w: %s is not base64", ErrInvalid, ExtCorrelation)
		}
		ev.Meta, _ = event.AppendMeta(ev.Meta, event.MetaCorrelation, b)
	} else if s := d.seen[attrCorrelation]; s != "" {
		ev.Meta, _ = event.AppendMeta(ev.Meta, event.MetaCorrelation, s)
	}
	return nil
}

// unescape is the opposite of escape, and understands quoted strings (HTTP binding, section 3.1.3.2).
func unescape(s string) (string, error) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = unquote(s[1 : len(s)-1])
	}
	if strings.IndexByte(s, '%') >= 0 {
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			if s[i] != '%' {
				b = append(b, s[i])
				continue
			}
			if i+2 >= len(s) {
				return "", errors.New("incomplete percent-encoding")
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", errors.New("wrong percent-encoding")
			}
			b = append(b, byte(n))
			i += 2
		}
		s = string(b)
	}
	if !utf8.ValidString(s) {
		return "", errors.New("not UTF-8")
	}
	return s, nil
}

func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

func order(seen map[string]string) []string {
	names := []string{"specversion", "id", "source", "type"}
	for name := range seen {
		switch name {
		case "specversion", "id", "source", "type":
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names[4:])
	return names
}
