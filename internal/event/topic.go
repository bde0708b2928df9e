package event

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// MaxTopic is the longest topic name or filter, in bytes (MQTT 5, section 4.7.3).
const MaxTopic = 65535

// Why CheckTopic refuses a topic name.
var (
	ErrTopicEmpty    = errors.New("topic is empty")
	ErrTopicLength   = errors.New("topic is longer than 65535 bytes")
	ErrTopicUTF8     = errors.New("topic is not a valid UTF-8 string")
	ErrTopicWildcard = errors.New("topic holds a wildcard")
)

// CheckTopic says whether t is a topic name (MQTT 5, sections 4.7.1 and 4.7.3): 1 to 65,535 bytes that ValidUTF8
// accepts, without + and #. The error is one of the ErrTopic values. Any number of levels is legal, empty ones too.
func CheckTopic(t []byte) error {
	switch {
	case len(t) == 0:
		return ErrTopicEmpty
	case len(t) > MaxTopic:
		return ErrTopicLength
	case !ValidUTF8(t):
		return ErrTopicUTF8
	case bytes.IndexByte(t, '+') >= 0 || bytes.IndexByte(t, '#') >= 0:
		return ErrTopicWildcard
	}
	return nil
}

// ValidTopic is CheckTopic without the reason.
func ValidTopic(t []byte) bool { return CheckTopic(t) == nil }

// ValidFilter says whether f is a topic filter (MQTT 5, section 4.7.1): 1 to 65,535 bytes that ValidUTF8 accepts, + only
// alone in its level, # only alone in the last one. A shared filter ($share/...) passes as the plain string it is: see
// SplitShared.
func ValidFilter(f []byte) bool {
	if len(f) == 0 || len(f) > MaxTopic || !ValidUTF8(f) {
		return false
	}
	for i, c := range f {
		if c != '+' && c != '#' {
			continue
		}
		if i > 0 && f[i-1] != '/' {
			return false
		}
		if i+1 < len(f) && (c == '#' || f[i+1] != '/') {
			return false
		}
	}
	return true
}

// ValidUTF8 says whether s is acceptable as an MQTT string (MQTT 5, section 1.5.4; client identifiers, user names,
// topics, properties): well-formed UTF-8 without surrogates and NUL, which the section demands, and without control
// characters and non-characters, which it lets a server refuse.
func ValidUTF8(s []byte) bool {
	const ones = 0x0101010101010101
	// Eight printable ASCII bytes at once: each sum or difference sets the top bit of a byte that is none.
	for len(s) >= 8 {
		v := binary.LittleEndian.Uint64(s)
		if (v|(v-0x20*ones)|(v+ones))&(0x80*ones) != 0 {
			break
		}
		s = s[8:]
	}
	for len(s) > 0 {
		if c := s[0]; c < utf8.RuneSelf {
			if c < 0x20 || c == 0x7f {
				return false
			}
			s = s[1:]
			continue
		}
		r, n := utf8.DecodeRune(s)
		if r == utf8.RuneError && n == 1 {
			return false
		}
		if r <= 0x9f || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe {
			return false
		}
		s = s[n:]
	}
	return true
}

// Match says whether a filter matches a topic name (MQTT 5, section 4.7): "a/#" matches "a", and a filter that starts
// with a wildcard matches no topic that starts with $ (4.7.2). Both must be valid; what it answers otherwise is not
// defined. It takes time linear in the shorter of the two.
func Match(filter, topic []byte) bool {
	if len(topic) > 0 && topic[0] == '$' && len(filter) > 0 && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		f, frest, fmore := cutLevel(filter)
		if isWild(f, '#') {
			return true
		}
		t, trest, tmore := cutLevel(topic)
		if !isWild(f, '+') && !bytes.Equal(f, t) {
			return false
		}
		if !tmore {
			return !fmore || isWild(frest, '#')
		}
		if !fmore {
			return false
		}
		filter, topic = frest, trest
	}
}

// Covers says whether every topic that narrow matches is also matched by wide: what an access rule asks about a
// subscription. Both must be valid filters. Where two filters mean the same but are written differently ("#" and "+/#")
// it may say no; it never says yes wrongly.
func Covers(wide, narrow []byte) bool {
	if len(narrow) > 0 && narrow[0] == '$' && len(wide) > 0 && (wide[0] == '+' || wide[0] == '#') {
		return false
	}
	for {
		w, wrest, wmore := cutLevel(wide)
		if isWild(w, '#') {
			return true
		}
		n, nrest, nmore := cutLevel(narrow)
		if isWild(n, '#') || !isWild(w, '+') && !bytes.Equal(w, n) {
			return false
		}
		if !nmore {
			return !wmore || isWild(wrest, '#')
		}
		if !wmore {
			return false
		}
		wide, narrow = wrest, nrest
	}
}

// SplitShared splits $share/group/filter (MQTT 5, section 4.8.2). For any other filter shared is false, group is nil and
// filter is f. ok is false where f is not a valid filter: an empty group, a wildcard in the group, no filter behind it,
// or a filter that ValidFilter refuses.
func SplitShared(f []byte) (group, filter []byte, shared, ok bool) {
	rest, shared := bytes.CutPrefix(f, []byte("$share/"))
	if !shared {
		return nil, f, false, ValidFilter(f)
	}
	group, filter, _ = bytes.Cut(rest, []byte("/"))
	ok = len(f) <= MaxTopic && len(group) > 0 && bytes.IndexByte(group, '+') < 0 && bytes.IndexByte(group, '#') < 0 &&
		ValidUTF8(group) && ValidFilter(filter)
	return group, filter, true, ok
}

// cutLevel splits the first level off a topic or filter; more says whether a separator followed it.
func cutLevel(s []byte) (level, rest []byte, more bool) {
	for i, c := range s {
		if c == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, nil, false
}

func isWild(level []byte, c byte) bool { return len(level) == 1 && level[0] == c }
