package identity

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/windrose-edc/windrose/internal/event"
)

// PSKSpec is `psk:` in the list of authenticators. The keys themselves are named by the listener.
type PSKSpec struct {
	Listener string `yaml:"listener" ref:"listeners" doc:"Only on this listener; empty: on all that have a table of keys."`
	Client   string `yaml:"client" default:"identity" enum:"identity" doc:"What the principal and its client id are: the identity whose key the handshake proved."`
}

// PSK admits a peer whose handshake proved the key of an identity. Immutable after New; safe for concurrent use.
type PSK struct {
	listener string
}

// NewPSK returns the authenticator of a specification.
func NewPSK(spec PSKSpec) (*PSK, error) {
	if spec.Client != "" && spec.Client != "identity" {
		return nil, fmt.Errorf("psk: client must be identity, not %q", spec.Client)
	}
	return &PSK{listener: spec.Listener}, nil
}

// Name is "psk".
func (p *PSK) Name() string { return "psk" }

// Slow says no: the handshake has done the work.
func (p *PSK) Slow() bool { return false }

// Authenticate admits the peer under its identity, which is its client id too.
func (p *PSK) Authenticate(_ context.Context, c *Credentials) (Principal, Decision, error) {
	if c.PSKIdentity == "" || p.listener != "" && p.listener != c.Listener || !event.ValidUTF8([]byte(c.PSKIdentity)) {
		return Principal{}, Unknown, nil
	}
	return Principal{Name: c.PSKIdentity, Client: c.PSKIdentity, Method: p.Name()}, Admitted, nil
}

// Bounds of a table of pre-shared keys.
const (
	maxPSKFile     = 64 << 20 // bytes
	maxPSKIdentity = 128      // bytes: what RFC 4279, section 5.3, asks to be possible
	minPSKKey      = 8        // bytes; 16 and more are strong
	maxPSKKey      = 64       // bytes: RFC 4279, section 5.3
)

// PSKTable holds pre-shared keys by identity. Safe for concurrent use: readers see one immutable map after the other.
type PSKTable struct {
	path string
	keys atomic.Pointer[map[string][]byte]
}

// LoadPSK reads a table: one "identity:key" on each line, the key in hexadecimal; the identity may hold colons. Empty
// lines and lines that begin with # are left out. Errors name the file and the line.
func LoadPSK(path string) (*PSKTable, error) {
	t := &PSKTable{path: path}
	if err := t.Reload(); err != nil {
		return nil, err
	}
	return t, nil
}

// ParsePSK makes a table of the content of a file (a secret that was read elsewhere); name stands for it in errors.
func ParsePSK(name string, b []byte) (*PSKTable, error) {
	keys, err := parsePSK(name, b)
	if err != nil {
		return nil, err
	}
	t := &PSKTable{}
	t.keys.Store(&keys)
	return t, nil
}

// Reload reads the file again. Where it cannot be read or is wrong nothing changes. A table of ParsePSK has none.
func (t *PSKTable) Reload() error {
	if t.path == "" {
		return nil
	}
	f, err := os.Open(t.path)
	if err != nil {
		return fmt.Errorf("open key table: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxPSKFile+1))
	if err != nil {
		return fmt.Errorf("read key table: %w", err)
	}
	keys, err := parsePSK(t.path, b)
	if err != nil {
		return err
	}
	t.keys.Store(&keys)
	return nil
}

// Lookup returns the key of an identity, not to be written. Where ok is false a handshake goes on with a random key, so
// that it fails as it does for a wrong one.
func (t *PSKTable) Lookup(identity string) (key []byte, ok bool) {
	key, ok = (*t.keys.Load())[identity]
	return key, ok
}

// Len is how many identities there are.
func (t *PSKTable) Len() int { return len(*t.keys.Load()) }

// parsePSK reads the lines of a table. Its errors hold nothing of them.
func parsePSK(path string, b []byte) (map[string][]byte, error) {
	if len(b) > maxPSKFile {
		return nil, fileError(path, 1, "key table is larger than %d MiB", maxPSKFile>>20)
	}
	keys := make(map[string][]byte)
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n"))
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		at := bytes.LastIndexByte(line, ':')
		if at < 0 {
			return nil, fileError(path, n, "want identity:key")
		}
		id := line[:at]
		if len(id) == 0 || len(id) > maxPSKIdentity || !event.ValidUTF8(id) {
			return nil, fileError(path, n, "identity must be UTF-8 text of 1 to %d bytes without control characters", maxPSKIdentity)
		}
		key := make([]byte, hex.DecodedLen(len(line)-at-1))
		if _, err := hex.Decode(key, line[at+1:]); err != nil || len(key) < minPSKKey || len(key) > maxPSKKey {
			return nil, fileError(path, n, "key must be %d to %d bytes in hexadecimal", minPSKKey, maxPSKKey)
		}
		if _, twice := keys[string(id)]; twice {
			return nil, fileError(path, n, "identity is there twice")
		}
		keys[string(id)] = key
	}
	return keys, nil
}
