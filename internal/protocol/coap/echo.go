package coap

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// echoLife is how long the value of an Echo option shows that its sender is reachable.
const echoLife = 60 * time.Second

// echoKey makes and checks the values of Echo options without remembering them: 4 bytes of time, 8 of a hash over the time and
// the address (RFC 9175, appendix A, method 2). Immutable; safe for concurrent use.
type echoKey [32]byte

const echoSize = 12

func (k *echoKey) append(dst []byte, a netip.AddrPort, now int64) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(now/int64(time.Second)))
	sum := k.sum(a, dst[at:])
	return append(dst, sum[:echoSize-4]...)
}

// fresh says whether the value was made for that address, not long ago.
func (k *echoKey) fresh(v []byte, a netip.AddrPort, now int64) bool {
	if len(v) != echoSize {
		return false
	}
	age := now/int64(time.Second) - int64(binary.BigEndian.Uint32(v))
	if age < 0 || age > int64(echoLife/time.Second) {
		return false
	}
	sum := k.sum(a, v[:4])
	return hmac.Equal(sum[:echoSize-4], v[4:])
}

func (k *echoKey) sum(a netip.AddrPort, at []byte) (out [sha256.Size]byte) {
	h := hmac.New(sha256.New, k[:])
	ip := a.Addr().As16()
	h.Write(ip[:])
	h.Write([]byte{byte(a.Port() >> 8), byte(a.Port())})
	h.Write(at)
	h.Sum(out[:0])
	return out
}
