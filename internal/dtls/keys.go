package dtls

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/gob"
	"errors"
	"fmt"
	"hash"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
)

// suite is a cipher suite that is spoken: AEAD only, what RFC 7252, section 9.1.3, and RFC 7925 ask for first.
type suite struct {
	id  dtls.CipherSuiteID
	psk bool
	key int // bytes
	tag int // bytes, of CCM; 0: GCM
	sum func() hash.Hash
}

func suites() []suite {
	return []suite{
		{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, true, 16, 0, sha256.New},
		{dtls.TLS_PSK_WITH_AES_128_CCM, true, 16, 16, sha256.New},
		{dtls.TLS_PSK_WITH_AES_128_CCM_8, true, 16, 8, sha256.New},
		{dtls.TLS_PSK_WITH_AES_256_CCM_8, true, 32, 8, sha256.New},
		{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, false, 16, 0, sha256.New},
		{dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, false, 16, 0, sha256.New},
		{dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, false, 32, 0, sha512.New384},
		{dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, false, 32, 0, sha512.New384},
		{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM, false, 16, 16, sha256.New},
		{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, false, 16, 8, sha256.New},
	}
}

// exported is what the library says of an established session when it is written out (dtls.State.MarshalBinary): the only
// way to its keys that it has. Names are the library's.
type exported struct {
	RemoteSequenceNumber uint64
	LocalEpoch           uint16
	RemoteEpoch          uint16
	LocalRandom          [32]byte
	RemoteRandom         [32]byte
	CipherSuiteID        uint16
	MasterSecret         []byte
	PeerCertificates     [][]byte
	IdentityHint         []byte
	LocalConnectionID    []byte
	RemoteConnectionID   []byte
	SequenceNumber       uint64
}

// keys are what records are protected with from the end of the handshake on.
type keys struct {
	rx, tx direction
	sent   uint64 // the next number of ours
	seen   window
}

var errState = errors.New("the library's state is not as expected")

// exportState takes the state of a session that will send nothing any more.
func exportState(c *dtls.Conn) (*exported, error) {
	st, ok := c.ConnectionState()
	if !ok {
		return nil, errState
	}
	b, err := st.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("export state: %w", err)
	}
	x := &exported{}
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(x); err != nil {
		return nil, fmt.Errorf("export state: %w", err)
	}
	if x.LocalEpoch != 1 || x.RemoteEpoch != 1 || len(x.MasterSecret) != 48 || x.SequenceNumber == 0 {
		return nil, errState
	}
	return x, nil
}

// derive makes the keys of a server (RFC 5246, section 6.3).
func (x *exported) derive() (*keys, error) {
	for _, s := range suites() {
		if uint16(s.id) != x.CipherSuiteID {
			continue
		}
		m, err := prf.GenerateEncryptionKeys(x.MasterSecret, x.RemoteRandom[:], x.LocalRandom[:], 0, s.key, 4, s.sum)
		if err != nil {
			return nil, fmt.Errorf("derive keys: %w", err)
		}
		k := &keys{sent: x.SequenceNumber, seen: window{next: x.RemoteSequenceNumber, seen: ^uint64(0)}}
		if k.rx, err = s.direction(m.ClientWriteKey, m.ClientWriteIV); err != nil {
			return nil, err
		}
		if k.tx, err = s.direction(m.ServerWriteKey, m.ServerWriteIV); err != nil {
			return nil, err
		}
		return k, nil
	}
	return nil, errState
}

func (s *suite) direction(key, iv []byte) (d direction, err error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return d, fmt.Errorf("derive keys: %w", err)
	}
	copy(d.iv[:], iv)
	if s.tag > 0 {
		d.aead = &ccm{block: block, tag: s.tag}
		return d, nil
	}
	if d.aead, err = cipher.NewGCM(block); err != nil {
		return d, fmt.Errorf("derive keys: %w", err)
	}
	return d, nil
}
