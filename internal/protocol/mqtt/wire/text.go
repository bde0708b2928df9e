package wire

import (
	"encoding/binary"

	"github.com/windrose-edc/windrose/internal/event"
)

// plainTopic says whether b is printable ASCII without wildcards, eight bytes at a time: nearly every topic on the wire
// is, and then one pass has checked it. x - 0x20 sets the top bit of a byte below 0x20, x + 1 at 0x7f, x itself from
// 0x80 on; '#' and '+' differ in the bit 0x08 only, so one test finds both.
func plainTopic(b []byte) bool {
	const each = 0x0101010101010101
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		w := (x | 0x08*each) ^ '+'*each
		if (x|(x-0x20*each)|(x+each)|(w-each))&(0x80*each) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < 0x20 || c >= 0x7f || c == '#' || c == '+' {
			return false
		}
	}
	return true
}

// validTopic checks a topic name (section 4.7.3).
func validTopic(b []byte) bool {
	return len(b) > 0 && plainTopic(b) || event.ValidTopic(b)
}

// checkFilter checks a topic filter (section 4.7.1) and the form of a shared subscription (section 4.8.2). MQTT 3.x has
// no shared subscriptions, but servers have offered them to it in this form for years, so they are checked alike.
func checkFilter(b []byte) (shared bool, err error) {
	_, _, shared, ok := event.SplitShared(b)
	switch {
	case ok:
		return shared, nil
	case len(b) == 0:
		return false, errEmptyFilter
	case !event.ValidUTF8(b):
		return false, errFilterUTF8
	case shared:
		return true, errShare
	}
	return false, errWildcard
}

var (
	errEmptyFilter = &Error{MalformedPacket, "topic filter is empty"}
	errFilterUTF8  = &Error{MalformedPacket, "topic filter is not valid UTF-8"}
	errWildcard    = &Error{TopicFilterInvalid, "topic filter has a wildcard where none may be"}
	errShare       = &Error{ProtocolError, "shared subscription without a group or without a valid filter"}
)
