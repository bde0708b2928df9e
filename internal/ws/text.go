package ws

import "unicode/utf8"

// textCheck checks that a text, which comes in pieces, is UTF-8 (RFC 6455, 8.1). It says no at the first byte that
// cannot be. Owned by its decoder.
type textCheck struct {
	part [utf8.UTFMax]byte // a character that is not complete
	n    uint8
}

func (t *textCheck) feed(p []byte) bool {
	for t.n > 0 && len(p) > 0 {
		t.part[t.n] = p[0]
		t.n++
		p = p[1:]
		if !utf8.FullRune(t.part[:t.n]) {
			continue
		}
		if r, size := utf8.DecodeRune(t.part[:t.n]); r == utf8.RuneError && size < 2 {
			return false
		}
		t.n = 0
	}
	end := len(p)
	for i := max(0, end-utf8.UTFMax+1); i < len(p); i++ {
		if utf8.RuneStart(p[i]) && !utf8.FullRune(p[i:]) {
			end = i
			break
		}
	}
	if !utf8.Valid(p[:end]) {
		return false
	}
	if end < len(p) {
		t.n = uint8(copy(t.part[:], p[end:]))
	}
	return true
}

// whole says whether no character is left incomplete, and begins anew.
func (t *textCheck) whole() bool {
	n := t.n
	t.n = 0
	return n == 0
}
