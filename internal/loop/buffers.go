package loop

import "math/bits"

const (
	minClass   = 10 // 1 KiB
	maxClass   = 20 // 1 MiB: larger buffers are left to the garbage collector
	numClasses = maxClass - minClass + 1
	keepBusy   = 8 << 20   // bytes of free buffers a loop keeps
	keepQuiet  = 128 << 10 // and how many while nothing happens
)

// buffers is the free list of a loop: output and kept input, by size class (powers of two). A connection takes a buffer
// when it has something to hold and gives it back when that is gone. Owned by its loop.
type buffers struct {
	free [numClasses][][]byte
	size int // bytes in free
}

// class is the smallest class that holds n bytes.
func class(n int) uint8 {
	if n <= 1<<minClass {
		return 0
	}
	return uint8(min(bits.Len(uint(n-1))-minClass, maxClass-minClass+1))
}

// get returns an empty buffer with room for at least n bytes, and of at least that class.
func (p *buffers) get(n int, cl uint8) []byte {
	cl = max(cl, class(n))
	if cl >= numClasses {
		return make([]byte, 0, n)
	}
	f := p.free[cl]
	if len(f) == 0 {
		return make([]byte, 0, 1<<(minClass+int(cl)))
	}
	b := f[len(f)-1]
	f[len(f)-1] = nil
	p.free[cl] = f[:len(f)-1]
	p.size -= cap(b)
	return b
}

func (p *buffers) put(b []byte) {
	c := cap(b)
	if c < 1<<minClass || c >= 2<<maxClass || p.size+c > keepBusy {
		return
	}
	cl := bits.Len(uint(c)) - 1 - minClass
	p.free[cl] = append(p.free[cl], b[:0])
	p.size += c
}

// grow returns b with room for n more bytes, taking a larger buffer when needed.
func (p *buffers) grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	g := append(p.get(max(len(b)+n, 2*len(b)), 0), b...)
	p.put(b)
	return g
}

// trim drops buffers, the largest first, until at most keep bytes are left.
func (p *buffers) trim(keep int) {
	for cl := numClasses - 1; cl >= 0 && p.size > keep; cl-- {
		for f := p.free[cl]; len(f) > 0 && p.size > keep; f = p.free[cl] {
			p.size -= cap(f[len(f)-1])
			f[len(f)-1] = nil
			p.free[cl] = f[:len(f)-1]
		}
		if len(p.free[cl]) == 0 {
			p.free[cl] = nil
		}
	}
}
