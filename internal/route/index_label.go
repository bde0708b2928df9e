package route

import (
	"encoding/binary"
	"hash/maphash"
)

// level is one level of a topic or filter with what is needed to look it up. A value.
type level struct {
	text []byte
	hash uint64 // keyed: a peer cannot choose levels that collide
	head uint64 // the first word of its label
}

func makeLevel(seed maphash.Seed, text []byte) level {
	return level{text: text, hash: maphash.Bytes(seed, text), head: labelHead(text)}
}

// A label is the text of a level as words: the length in the low 16 bits and up to six bytes in the first, eight bytes in
// each further one, little endian, padded with zeros.

const labelInHead = 6

func labelHead(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.LittleEndian.Uint64(b)<<16 | uint64(len(b))
	}
	w := uint64(len(b))
	for i, c := range b[:min(len(b), labelInHead)] {
		w |= uint64(c) << (16 + 8*i)
	}
	return w
}

func labelWords(n int) int { return 1 + (max(n, labelInHead)-labelInHead+7)/8 }

func storeLabel(dst []word, l *level) {
	dst[0].Store(l.head)
	for i, at := 1, labelInHead; at < len(l.text); i, at = i+1, at+8 {
		dst[i].Store(labelWord(l.text, at))
	}
}

func labelIs(b []word, l *level) bool {
	if b[0].Load() != l.head {
		return false
	}
	for i, at := 1, labelInHead; at < len(l.text); i, at = i+1, at+8 {
		if b[i].Load() != labelWord(l.text, at) {
			return false
		}
	}
	return true
}

// labelWord packs up to eight bytes of b from at on.
func labelWord(b []byte, at int) uint64 {
	n := len(b) - at
	if n >= 8 {
		return binary.LittleEndian.Uint64(b[at:])
	}
	if len(b) >= 8 {
		return binary.LittleEndian.Uint64(b[len(b)-8:]) >> (8 * (8 - n))
	}
	return uint64(b[at]) // only a text of seven bytes comes here, and one of them is left
}

// appendLabel appends the text of a label to dst.
func appendLabel(dst []byte, b []word) []byte {
	head := b[0].Load()
	n, start := int(head&0xffff), len(dst)
	dst = binary.LittleEndian.AppendUint64(dst, head>>16)[:start+labelInHead]
	for i := 1; i < labelWords(n); i++ {
		dst = binary.LittleEndian.AppendUint64(dst, b[i].Load())
	}
	return dst[:start+n]
}
