package dtls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// ccm is AES-CCM (RFC 3610) with nonces of 12 bytes, as cipher.AEAD, without allocation. Its blocks are fields, so it belongs
// to one direction of one peer: owned by its loop.
type ccm struct {
	block cipher.Block
	tag   int // bytes: 8 or 16
	mac   [aes.BlockSize]byte
	ctr   [aes.BlockSize]byte
	pad   [aes.BlockSize]byte
}

var errForged = errors.New("not authentic")

// NonceSize implements cipher.AEAD.
func (c *ccm) NonceSize() int { return nonceSize }

// Overhead implements cipher.AEAD.
func (c *ccm) Overhead() int { return c.tag }

// sum computes the tag of RFC 3610, section 2.2, into c.mac, unencrypted. Additional data is shorter than 0xff00 bytes.
func (c *ccm) sum(nonce, plain, aad []byte) {
	c.mac[0] = 1<<6 | byte(c.tag-2)/2<<3 | 2 // L is 3
	copy(c.mac[1:], nonce)
	c.mac[13], c.mac[14], c.mac[15] = byte(len(plain)>>16), byte(len(plain)>>8), byte(len(plain))
	c.block.Encrypt(c.mac[:], c.mac[:])
	clear(c.pad[:])
	binary.BigEndian.PutUint16(c.pad[:], uint16(len(aad)))
	aad = aad[copy(c.pad[2:], aad):]
	c.round(c.pad[:])
	c.absorb(aad)
	c.absorb(plain)
}

func (c *ccm) absorb(b []byte) {
	for ; len(b) >= aes.BlockSize; b = b[aes.BlockSize:] {
		c.round(b[:aes.BlockSize])
	}
	if len(b) > 0 {
		c.round(b)
	}
}

func (c *ccm) round(b []byte) {
	subtle.XORBytes(c.mac[:], c.mac[:], b)
	c.block.Encrypt(c.mac[:], c.mac[:])
}

// key puts the n-th block of the key stream into c.pad.
func (c *ccm) key(nonce []byte, n int) {
	c.ctr[0] = 2
	copy(c.ctr[1:], nonce)
	c.ctr[13], c.ctr[14], c.ctr[15] = byte(n>>16), byte(n>>8), byte(n)
	c.block.Encrypt(c.pad[:], c.ctr[:])
}

func (c *ccm) crypt(dst, src, nonce []byte) {
	for n := 1; len(src) > 0; n++ {
		c.key(nonce, n)
		k := subtle.XORBytes(dst, src, c.pad[:])
		dst, src = dst[k:], src[k:]
	}
}

// Seal implements cipher.AEAD.
func (c *ccm) Seal(dst, nonce, plain, aad []byte) []byte {
	c.sum(nonce, plain, aad)
	at := len(dst)
	dst = append(dst, plain...)
	c.crypt(dst[at:], plain, nonce)
	c.key(nonce, 0)
	subtle.XORBytes(c.mac[:], c.mac[:], c.pad[:])
	return append(dst, c.mac[:c.tag]...)
}

// Open implements cipher.AEAD.
func (c *ccm) Open(dst, nonce, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < c.tag {
		return nil, errForged
	}
	body, tag := sealed[:len(sealed)-c.tag], sealed[len(sealed)-c.tag:]
	at := len(dst)
	dst = append(dst, body...)
	c.crypt(dst[at:], body, nonce)
	c.sum(nonce, dst[at:], aad)
	c.key(nonce, 0)
	subtle.XORBytes(c.mac[:], c.mac[:], c.pad[:])
	if subtle.ConstantTimeCompare(c.mac[:c.tag], tag) != 1 {
		clear(dst[at:])
		return nil, errForged
	}
	return dst, nil
}
