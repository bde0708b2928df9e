package ws

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"testing"
)

// plainMask is the algorithm as RFC 6455, 5.3 writes it.
func plainMask(b []byte, key [4]byte, from int) []byte {
	out := bytes.Clone(b)
	for i := range out {
		out[i] ^= key[(from+i)%4]
	}
	return out
}

func TestMasking53(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 140 {
		for shift := range 20 { // how far the payload moves down
			var key [4]byte
			binary.LittleEndian.PutUint32(key[:], r.Uint32())
			b := make([]byte, shift+n)
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			want := plainMask(b[shift:], key, 0)
			cut := 0
			if n > 0 {
				cut = r.IntN(n) // in two pieces, at any place
			}
			k := mask(b[:cut], b[shift:shift+cut], binary.LittleEndian.Uint32(key[:]))
			mask(b[cut:n], b[shift+cut:], k)
			if !bytes.Equal(b[:n], want) {
				t.Fatalf("%d bytes, moved by %d, cut at %d: wrong", n, shift, cut)
			}
		}
	}
}

func BenchmarkMask(b *testing.B) {
	for _, n := range []int{16, 128, 4096, 65536} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				mask(p, p, 0x12345678)
			}
		})
	}
}
