package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Cost is what one argon2id hash costs (RFC 9106). The zero Cost stands for DefaultCost.
type Cost struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8
}

// DefaultCost takes 19 MiB and two passes: the least that OWASP's password storage cheat sheet asks for, and about 30 ms
// of one core.
func DefaultCost() Cost { return Cost{Memory: 19 * 1024, Time: 2, Threads: 1} }

// Bounds of what a users file may ask for: memory and time of each verification.
const (
	maxArgonMemory  = 256 * 1024 // KiB
	maxArgonTime    = 16
	maxArgonThreads = 16
	argonSaltLen    = 16
	argonKeyLen     = 32
)

func (c Cost) check() error {
	switch {
	case c.Threads < 1 || c.Threads > maxArgonThreads:
		return fmt.Errorf("argon2id threads must be 1 to %d", maxArgonThreads)
	case c.Time < 1 || c.Time > maxArgonTime:
		return fmt.Errorf("argon2id passes must be 1 to %d", maxArgonTime)
	case c.Memory < 8*uint32(c.Threads) || c.Memory > maxArgonMemory:
		return fmt.Errorf("argon2id memory must be 8 KiB per thread to %d MiB", maxArgonMemory/1024)
	}
	return nil
}

// argonHash is one password hash. Immutable after New.
type argonHash struct {
	cost Cost
	salt []byte
	key  []byte
}

func newArgonHash(password []byte, c Cost) (*argonHash, error) {
	if c == (Cost{}) {
		c = DefaultCost()
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	h := &argonHash{cost: c, salt: make([]byte, argonSaltLen)}
	_, _ = rand.Read(h.salt) // never fails: crypto/rand ends the process instead
	h.key = h.derive(password, argonKeyLen)
	return h, nil
}

func (h *argonHash) derive(password []byte, n uint32) []byte {
	return argon2.IDKey(password, h.salt, h.cost.Time, h.cost.Memory, h.cost.Threads, n)
}

// verify takes the hash's full cost, whatever the password is.
func (h *argonHash) verify(password []byte) bool {
	return subtle.ConstantTimeCompare(h.derive(password, uint32(len(h.key))), h.key) == 1
}

// String is the hash as a PHC string: $argon2id$v=19$m=19456,t=2,p=1$salt$key.
func (h *argonHash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.cost.Memory, h.cost.Time, h.cost.Threads,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.key))
}

var errNotArgon = errors.New("not an argon2id hash ($argon2id$v=19$m=19456,t=2,p=1$salt$key)")

// parseArgon reads a PHC string. Its errors do not hold any of it.
func parseArgon(s string) (*argonHash, error) {
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" {
		return nil, errNotArgon
	}
	if f[2] != "v="+strconv.Itoa(argon2.Version) {
		return nil, fmt.Errorf("argon2id hash: version must be v=%d", argon2.Version)
	}
	h := &argonHash{}
	for i, p := range strings.Split(f[3], ",") {
		k, v, _ := strings.Cut(p, "=")
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || i > 2 || k != string("mtp"[i]) {
			return nil, errors.New("argon2id hash: parameters must be m=KIB,t=PASSES,p=THREADS")
		}
		switch i {
		case 0:
			h.cost.Memory = uint32(n)
		case 1:
			h.cost.Time = uint32(n)
		case 2:
			h.cost.Threads = uint8(min(n, 255))
		}
	}
	if err := h.cost.check(); err != nil {
		return nil, err
	}
	var errSalt, errKey error
	h.salt, errSalt = base64.RawStdEncoding.DecodeString(f[4])
	h.key, errKey = base64.RawStdEncoding.DecodeString(f[5])
	if errSalt != nil || errKey != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.key) < 16 || len(h.key) > 64 {
		return nil, errors.New("argon2id hash: salt (8 to 64 bytes) and key (16 to 64 bytes) must be base64 without padding")
	}
	return h, nil
}
