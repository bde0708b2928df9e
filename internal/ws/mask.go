package ws

import "encoding/binary"

// mask writes src, masked with key (RFC 6455, 5.3), to dst, eight bytes at a time, and returns the key as it goes on
// behind. dst is src itself, or another buffer of that length, or begins before src in the same one.
func mask(dst, src []byte, key uint32) uint32 {
	dst = dst[:len(src)]
	k := uint64(key)<<32 | uint64(key)
	for len(src) >= 32 {
		a, b := binary.LittleEndian.Uint64(src), binary.LittleEndian.Uint64(src[8:])
		c, d := binary.LittleEndian.Uint64(src[16:]), binary.LittleEndian.Uint64(src[24:])
		binary.LittleEndian.PutUint64(dst, a^k)
		binary.LittleEndian.PutUint64(dst[8:], b^k)
		binary.LittleEndian.PutUint64(dst[16:], c^k)
		binary.LittleEndian.PutUint64(dst[24:], d^k)
		src, dst = src[32:], dst[32:]
	}
	for len(src) >= 8 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^k)
		src, dst = src[8:], dst[8:]
	}
	for i, c := range src {
		dst[i] = c ^ byte(key)
		key = key>>8 | key<<24
	}
	return key
}
