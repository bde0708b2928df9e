package loop

import (
	"math/rand/v2"
	"testing"
)

func TestBuffers(t *testing.T) {
	var p buffers
	for _, n := range []int{0, 1, 1023, 1024, 1025, 2048, 2049, 1 << 20, 1<<20 + 1, 5 << 20} {
		for cl := range uint8(numClasses) {
			b := p.get(n, cl)
			if len(b) != 0 || cap(b) < n || cap(b) < 1<<minClass {
				t.Errorf("get(%d, %d): %d of %d", n, cl, len(b), cap(b))
			}
			p.put(b)
		}
	}
	p.trim(0)
	if p.size != 0 {
		t.Errorf("%d bytes after trim", p.size)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var held [][]byte
	for range 20_000 {
		if r.IntN(2) == 0 || len(held) == 0 {
			b := p.grow(p.get(r.IntN(5000), uint8(r.IntN(3))), r.IntN(1<<r.IntN(22)))
			if len(b) != 0 {
				t.Fatal("not empty")
			}
			held = append(held, b[:cap(b)])
		} else {
			i := r.IntN(len(held))
			p.put(held[i])
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
		}
		sum := 0
		for cl, f := range p.free {
			for _, b := range f {
				sum += cap(b)
				if cap(b) < 1<<(minClass+cl) {
					t.Fatalf("a buffer of %d in class %d", cap(b), cl)
				}
			}
		}
		if sum != p.size || sum > keepBusy {
			t.Fatalf("%d bytes, counted %d", sum, p.size)
		}
		if len(held) > 100 {
			held = held[:0]
		}
	}
}
