package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the algorithms
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// jwtAlgorithm is a signature algorithm of RFC 7518, section 3, or RFC 8037. There is no entry for none, nor for those whose
// key is a shared secret (HS256 and the like), so that a public key can never be taken for one (RFC 8725, sections 2.1 and 3.1).
type jwtAlgorithm struct {
	name string
	hash crypto.Hash
	fits func(pub crypto.PublicKey) bool
	ok   func(pub crypto.PublicKey, hash crypto.Hash, signed, sig []byte) bool
}

func jwtAlgorithms() []jwtAlgorithm {
	isRSA := func(pub crypto.PublicKey) bool { _, ok := pub.(*rsa.PublicKey); return ok }
	on := func(c elliptic.Curve) func(pub crypto.PublicKey) bool {
		return func(pub crypto.PublicKey) bool { k, ok := pub.(*ecdsa.PublicKey); return ok && k.Curve == c }
	}
	isEd := func(pub crypto.PublicKey) bool { _, ok := pub.(ed25519.PublicKey); return ok }
	return []jwtAlgorithm{
		{"RS256", crypto.SHA256, isRSA, verifyPKCS1}, {"RS384", crypto.SHA384, isRSA, verifyPKCS1}, {"RS512", crypto.SHA512, isRSA, verifyPKCS1},
		{"PS256", crypto.SHA256, isRSA, verifyPSS}, {"PS384", crypto.SHA384, isRSA, verifyPSS}, {"PS512", crypto.SHA512, isRSA, verifyPSS},
		{"ES256", crypto.SHA256, on(elliptic.P256()), verifyECDSA}, {"ES384", crypto.SHA384, on(elliptic.P384()), verifyECDSA},
		{"ES512", crypto.SHA512, on(elliptic.P521()), verifyECDSA},
		{"EdDSA", 0, isEd, verifyEd},
	}
}

func digest(h crypto.Hash, b []byte) []byte {
	x := h.New()
	_, _ = x.Write(b)
	return x.Sum(nil)
}

func verifyPKCS1(pub crypto.PublicKey, h crypto.Hash, signed, sig []byte) bool {
	k, ok := pub.(*rsa.PublicKey)
	return ok && rsa.VerifyPKCS1v15(k, h, digest(h, signed), sig) == nil
}

func verifyPSS(pub crypto.PublicKey, h crypto.Hash, signed, sig []byte) bool {
	k, ok := pub.(*rsa.PublicKey)
	return ok && rsa.VerifyPSS(k, h, digest(h, signed), sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}) == nil
}

// verifyECDSA takes R and S as numbers of fixed length (RFC 7518, section 3.4).
func verifyECDSA(pub crypto.PublicKey, h crypto.Hash, signed, sig []byte) bool {
	k, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return false
	}
	n := (k.Params().BitSize + 7) / 8
	if len(sig) != 2*n {
		return false
	}
	return ecdsa.Verify(k, digest(h, signed), new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:]))
}

func verifyEd(pub crypto.PublicKey, _ crypto.Hash, signed, sig []byte) bool {
	k, ok := pub.(ed25519.PublicKey)
	return ok && len(sig) == ed25519.SignatureSize && ed25519.Verify(k, signed, sig)
}

// Bounds of a key set.
const (
	maxKeySet  = 1 << 20 // bytes
	maxKeys    = 256
	minRSABits = 2048
	maxRSABits = 8192
)

// jwk is one key of a set. Immutable.
type jwk struct {
	kid, alg string // alg "": any that fits the key
	pub      crypto.PublicKey
}

// keySet is one reading of a JWKS (RFC 7517, section 5). Immutable.
type keySet struct{ keys []jwk }

// find returns the keys that a token's header may mean. Without a kid the key must be the only one that fits.
func (s *keySet) find(kid string, a *jwtAlgorithm) (k *jwk, known bool) {
	n := 0
	for i := range s.keys {
		x := &s.keys[i]
		if kid != "" && x.kid != kid {
			continue
		}
		known = true
		if a.fits(x.pub) && (x.alg == "" || x.alg == a.name) {
			k = x
			n++
		}
	}
	if kid == "" && n != 1 {
		return nil, n > 1
	}
	return k, known
}

// parseKeySet reads a JWKS. Keys that are not for signatures, of a kind that is not known or too weak are left out; a set
// without any other is an error. Errors hold nothing of the set.
func parseKeySet(b []byte) (*keySet, error) {
	if len(b) > maxKeySet {
		return nil, fmt.Errorf("key set is larger than %d MiB", maxKeySet>>20)
	}
	var doc struct {
		Keys []struct {
			Kty, Use, Alg, Kid, Crv, N, E, X, Y string
			Ops                                 []string `json:"key_ops"`
		} `json:"keys"`
	}
	if json.Unmarshal(b, &doc) != nil {
		return nil, errors.New("key set is not a JSON object with the list keys (RFC 7517, section 5)")
	}
	if len(doc.Keys) > maxKeys {
		return nil, fmt.Errorf("key set has more than %d keys", maxKeys)
	}
	s := &keySet{}
	for _, k := range doc.Keys {
		if k.Use != "" && k.Use != "sig" || len(k.Ops) > 0 && !slices.Contains(k.Ops, "verify") {
			continue
		}
		var pub crypto.PublicKey
		switch {
		case k.Kty == "RSA":
			pub = rsaKey(k.N, k.E)
		case k.Kty == "EC":
			pub = ecKey(k.Crv, k.X, k.Y)
		case k.Kty == "OKP" && k.Crv == "Ed25519":
			if x := unbase64(k.X); len(x) == ed25519.PublicKeySize {
				pub = ed25519.PublicKey(x)
			}
		}
		if pub != nil {
			s.keys = append(s.keys, jwk{kid: k.Kid, alg: k.Alg, pub: pub})
		}
	}
	if len(s.keys) == 0 {
		return nil, errors.New("key set has no public key for signatures (RSA from 2048 bits, EC P-256, P-384, P-521, Ed25519)")
	}
	return s, nil
}

// unbase64 is base64url without padding; nil where it is not.
func unbase64(s string) []byte {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}

func rsaKey(n64, e64 string) crypto.PublicKey {
	n, e := new(big.Int).SetBytes(unbase64(n64)), new(big.Int).SetBytes(unbase64(e64))
	if n.BitLen() < minRSABits || n.BitLen() > maxRSABits || n.Bit(0) == 0 || e.BitLen() > 31 || e.Int64() < 3 || e.Bit(0) == 0 {
		return nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}
}

func ecKey(crv, x64, y64 string) crypto.PublicKey {
	var c elliptic.Curve
	switch crv {
	case "P-256":
		c = elliptic.P256()
	case "P-384":
		c = elliptic.P384()
	case "P-521":
		c = elliptic.P521()
	default:
		return nil
	}
	n := (c.Params().BitSize + 7) / 8
	x, y := unbase64(x64), unbase64(y64)
	if len(x) != n || len(y) != n {
		return nil
	}
	k, err := ecdsa.ParseUncompressedPublicKey(c, slices.Concat([]byte{4}, x, y)) // checks that the point is on the curve
	if err != nil {
		return nil
	}
	return k
}

// jws is a token in its parts (RFC 7515, section 3.1). It borrows the token.
type jws struct {
	alg, kid string
	crit     bool // the header names extensions that have to be understood, and none is
	signed   []byte
	payload  []byte // base64url
	sig      []byte // base64url
}

// looksLikeToken says whether b has the shape of a JWT: three parts, the first the base64url of an object.
func looksLikeToken(b []byte) bool {
	return bytes.HasPrefix(b, []byte("eyJ")) && bytes.Count(b, []byte(".")) == 2
}

// maxTokenHeader bounds the header of a token, in bytes of base64url.
const maxTokenHeader = 2048

// splitToken takes a token apart; ok is false where it is none.
func splitToken(b []byte) (t jws, ok bool) {
	head, rest, ok1 := bytes.Cut(b, []byte("."))
	payload, sig, ok2 := bytes.Cut(rest, []byte("."))
	if !ok1 || !ok2 || len(head) > maxTokenHeader {
		return t, false
	}
	h, err := parseObject(unbase64(string(head)))
	if err != nil {
		return t, false
	}
	t.alg, ok = h["alg"].(string)
	if kid, there := h["kid"]; there {
		if t.kid, ok1 = kid.(string); !ok1 {
			return t, false
		}
	}
	_, t.crit = h["crit"]
	t.signed, t.payload, t.sig = b[:len(head)+1+len(payload)], payload, sig
	return t, ok
}
