package cloudevents

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/windrose-edc/windrose/internal/event"
)

// HTTP writes an event for the HTTP binding in binary mode (section 3.1): header is called for each header of the
// request, the body is the payload itself. id names an event that is not a CloudEvent yet. An event in structured mode
// stays in it. dropped is how much of the metadata has no place in a CloudEvent.
func (e *Encoder) HTTP(ev *event.Event, id string, header func(name, value string)) (body []byte, dropped int) {
	kind := KindOf(ev)
	if kind == Structured {
		header("Content-Type", string(ev.MetaValue(event.MetaContentType)))
		return ev.Payload, 0
	}
	a := e.attributes(ev, id, kind)
	for _, at := range a.list {
		header(HTTP.Name(at.name), escape(at.value))
	}
	if a.content != "" && isHeaderValue(a.content) {
		header("Content-Type", a.content)
	} else if a.content != "" {
		a.dropped++
	}
	return ev.Payload, a.dropped
}

// JSON appends an event to dst in the JSON event format (structured mode), and says its content type. An event in
// structured mode is appended as it is. For id and dropped see HTTP.
func (e *Encoder) JSON(dst []byte, ev *event.Event, id string) (body []byte, contentType string, dropped int) {
	kind := KindOf(ev)
	if kind == Structured {
		return append(dst, ev.Payload...), string(ev.MetaValue(event.MetaContentType)), 0
	}
	a := e.attributes(ev, id, kind)
	dst = append(dst, '{')
	for i, at := range a.list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, at.name)
		dst = append(dst, ':')
		if at.kind == text {
			dst = appendString(dst, at.value)
		} else {
			dst = append(dst, at.value...)
		}
	}
	if a.content != "" {
		dst = append(dst, `,"datacontenttype":`...)
		dst = appendString(dst, a.content)
	}
	dst = appendData(dst, a.content, ev.Payload)
	return append(dst, '}'), StructuredType, a.dropped
}

// appendData writes the member data or data_base64 (JSON event format, section 3.1.1).
func appendData(dst []byte, contentType string, payload []byte) []byte {
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case len(payload) == 0:
		return dst
	case err == nil && isJSON(media) && utf8.Valid(payload) && json.Valid(payload):
		dst = append(dst, `,"data":`...)
		return append(dst, payload...)
	case err == nil && !isJSON(media) && isTextual(media) && utf8.Valid(payload):
		dst = append(dst, `,"data":`...)
		return appendString(dst, payload)
	}
	dst = append(dst, `,"data_base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, payload)
	return append(dst, '"')
}

// isJSON says whether a media type without parameters declares JSON (JSON event format, section 3.1.1).
func isJSON(media string) bool {
	_, sub, _ := strings.Cut(media, "/")
	return sub == "json" || strings.HasSuffix(sub, "+json")
}

func isTextual(media string) bool {
	return strings.HasPrefix(media, "text/") || media == "application/xml" || strings.HasSuffix(media, "+xml")
}

const (
	upperHex = "0123456789ABCDEF"
	lowerHex = "0123456789abcdef"
)

// escape percent-encodes the value of an attribute (HTTP binding, section 3.1.3.2).
func escape(s string) string {
	n := 0
	for i := range len(s) {
		if mustEscape(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		c := s[i]
		if mustEscape(c) {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func mustEscape(c byte) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '%' }

// isHeaderValue says whether s can be written as it is: a content type is not percent-encoded.
func isHeaderValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// appendString appends a JSON string; what is not UTF-8 becomes U+FFFD.
func appendString[T ~string | ~[]byte](dst []byte, v T) []byte {
	s := string(v)
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == '"' || c == '\\':
				dst = append(dst, '\\', c)
			case c < ' ':
				dst = append(dst, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&15])
			default:
				dst = append(dst, c)
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		dst = utf8.AppendRune(dst, r) // RuneError is U+FFFD
		i += n
	}
	return append(dst, '"')
}
