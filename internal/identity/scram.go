package identity

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ScramSHA256 is the name of the mechanism, of the prefix of its verifiers and of Principal.Method (in lower case).
const ScramSHA256 = "SCRAM-SHA-256"

// Bounds of the iteration count of a verifier: RFC 7677, section 4, and what a peer can be asked to compute.
const (
	minIterations     = 4096
	maxIterations     = 1_000_000
	defaultIterations = 15_000
	scramSaltLen      = 16
)

// scramVerifier is what RFC 5802, section 3, lets a server keep of a password. Immutable after New.
type scramVerifier struct {
	iterations int
	salt       []byte
	stored     []byte // StoredKey = H(ClientKey)
	server     []byte // ServerKey
}

func newScramVerifier(password []byte, iterations int) (*scramVerifier, error) {
	if iterations == 0 {
		iterations = defaultIterations
	}
	if iterations < minIterations || iterations > maxIterations {
		return nil, fmt.Errorf("SCRAM iterations must be %d to %d", minIterations, maxIterations)
	}
	v := &scramVerifier{iterations: iterations, salt: make([]byte, scramSaltLen)}
	_, _ = rand.Read(v.salt)
	var err error
	v.stored, v.server, err = v.derive(password)
	return v, err
}

// derive computes StoredKey and ServerKey of a password (RFC 5802, section 3). It takes about a millisecond per 4,096
// iterations.
func (v *scramVerifier) derive(password []byte) (stored, server []byte, err error) {
	salted, err := pbkdf2.Key(sha256.New, string(password), v.salt, v.iterations, sha256.Size)
	if err != nil {
		return nil, nil, fmt.Errorf("derive SCRAM keys: %w", err)
	}
	key := sha256.Sum256(mac(salted, []byte("Client Key")))
	return key[:], mac(salted, []byte("Server Key")), nil
}

// verify checks a plain password against the verifier.
func (v *scramVerifier) verify(password []byte) bool {
	stored, _, err := v.derive(password)
	return err == nil && subtle.ConstantTimeCompare(stored, v.stored) == 1
}

// String is the verifier in the form that PostgreSQL made common: SCRAM-SHA-256$4096:salt$stored:server.
func (v *scramVerifier) String() string {
	enc := base64.StdEncoding.EncodeToString
	return ScramSHA256 + "$" + strconv.Itoa(v.iterations) + ":" + enc(v.salt) + "$" + enc(v.stored) + ":" + enc(v.server)
}

var errNotScram = errors.New("not a SCRAM-SHA-256 verifier (SCRAM-SHA-256$4096:salt$stored:server)")

// parseScram reads a verifier. Its errors do not hold any of it.
func parseScram(s string) (*scramVerifier, error) {
	f := strings.Split(s, "$")
	if len(f) != 3 || f[0] != ScramSHA256 {
		return nil, errNotScram
	}
	it, salt, ok1 := strings.Cut(f[1], ":")
	stored, server, ok2 := strings.Cut(f[2], ":")
	if !ok1 || !ok2 {
		return nil, errNotScram
	}
	n, err := strconv.ParseUint(it, 10, 32)
	if err != nil || n < minIterations || n > maxIterations {
		return nil, fmt.Errorf("SCRAM-SHA-256 verifier: iterations must be %d to %d", minIterations, maxIterations)
	}
	v := &scramVerifier{iterations: int(n)}
	var errs [3]error
	v.salt, errs[0] = base64.StdEncoding.DecodeString(salt)
	v.stored, errs[1] = base64.StdEncoding.DecodeString(stored)
	v.server, errs[2] = base64.StdEncoding.DecodeString(server)
	if errors.Join(errs[:]...) != nil || len(v.salt) < 8 || len(v.salt) > 64 || len(v.stored) != sha256.Size || len(v.server) != sha256.Size {
		return nil, errors.New("SCRAM-SHA-256 verifier: salt (8 to 64 bytes) and keys (32 bytes) must be base64")
	}
	return v, nil
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		_, _ = h.Write(p)
	}
	return h.Sum(nil)
}
