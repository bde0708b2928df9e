package identity

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// ScramClient is the client's side of one SCRAM-SHA-256 exchange (RFC 5802, RFC 7677), without channel binding. Owned by the
// connection that runs it; used once.
type ScramClient struct {
	name, password string
	nonce          string // our part; set by tests

	bare    string
	server  []byte // ServerKey; nil until Final
	message []byte // AuthMessage
}

// NewScramClient starts an exchange for a user. Name and password are used as they are; see ScramServer.
func NewScramClient(name, password string) *ScramClient {
	return &ScramClient{name: name, password: password}
}

// First is the first message.
func (c *ScramClient) First() []byte {
	if c.nonce == "" {
		var b [scramNonceLen]byte
		_, _ = rand.Read(b[:])
		c.nonce = base64.StdEncoding.EncodeToString(b[:])
	}
	c.bare = "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(c.name) + ",r=" + c.nonce
	return []byte("n,," + c.bare)
}

// Final answers the server's challenge. It takes about a millisecond per 4,096 iterations. The error wraps ErrScramMessage.
func (c *ScramClient) Final(challenge []byte) ([]byte, error) {
	if len(challenge) > maxScramMessage {
		return nil, fmt.Errorf("%w: challenge too long", ErrScramMessage)
	}
	f := strings.Split(string(challenge), ",")
	if len(f) < 3 {
		return nil, fmt.Errorf("%w: want r=nonce,s=salt,i=iterations", ErrScramMessage)
	}
	nonce, ok := strings.CutPrefix(f[0], "r=")
	if !ok || !strings.HasPrefix(nonce, c.nonce) || len(nonce) == len(c.nonce) || !printable(nonce) {
		return nil, fmt.Errorf("%w: the server's nonce does not begin with ours", ErrScramMessage)
	}
	enc, ok := strings.CutPrefix(f[1], "s=")
	salt, err := base64.StdEncoding.Strict().DecodeString(enc)
	if !ok || err != nil || len(salt) == 0 {
		return nil, fmt.Errorf("%w: bad salt", ErrScramMessage)
	}
	count, ok := strings.CutPrefix(f[2], "i=")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || n < minIterations || n > maxIterations {
		return nil, fmt.Errorf("%w: iterations must be %d to %d", ErrScramMessage, minIterations, maxIterations)
	}
	salted, err := pbkdf2.Key(sha256.New, c.password, salt, n, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive SCRAM keys: %w", err)
	}
	without := "c=" + base64.StdEncoding.EncodeToString([]byte("n,,")) + ",r=" + nonce
	c.message = []byte(c.bare + "," + string(challenge) + "," + without)
	key := mac(salted, []byte("Client Key"))
	stored := sha256.Sum256(key)
	proof := make([]byte, sha256.Size)
	subtle.XORBytes(proof, key, mac(stored[:], c.message))
	c.server = mac(salted, []byte("Server Key"))
	return []byte(without + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// Verify checks the server's last message: that it too knows the password. The error wraps ErrScramRefused.
func (c *ScramClient) Verify(final []byte) error {
	v, ok := bytes.CutPrefix(final, []byte("v="))
	if !ok || c.server == nil {
		return fmt.Errorf("%w: no signature of the server", ErrScramRefused)
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(string(v))
	if err != nil || !hmac.Equal(sig, mac(c.server, c.message)) {
		return fmt.Errorf("%w: the server's signature is wrong", ErrScramRefused)
	}
	return nil
}
