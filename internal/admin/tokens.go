package admin

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// TokensFile is the name of the tokens file in the data folder.
const TokensFile = "admin-tokens.json"

// The form of a token: tokenPrefix, the name of its entry, and secretBytes of randomness.
const (
	tokenPrefix = "wrt_"
	secretBytes = 32
	// maxTokens and maxTokensFile bound what is read.
	maxTokens     = 1000
	maxTokensFile = 1 << 20
	// tokensAge is how long the file is not looked at again: so soon a token that was taken away is none any more.
	tokensAge = time.Second
)

// Token is one entry of a tokens file. The secret is not in it: Hash is its SHA-256, which suffices for 256 random bits.
type Token struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Hash    string    `json:"hash,omitempty"` // hexadecimal
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// Expired says whether the token's time has passed.
func (t *Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// tokensDoc is the tokens file.
type tokensDoc struct {
	Tokens []Token `json:"tokens"`
}

// ReadTokens reads a tokens file; one that does not exist has none.
func ReadTokens(file string) ([]Token, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	if info.Size() > maxTokensFile {
		return nil, fmt.Errorf("read tokens: %s is larger than %d bytes", file, maxTokensFile)
	}
	var doc tokensDoc
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("read tokens of %s: %w", file, err)
	}
	if len(doc.Tokens) > maxTokens {
		return nil, fmt.Errorf("read tokens of %s: more than %d", file, maxTokens)
	}
	for _, t := range doc.Tokens {
		_, err := ParseRole(t.Role)
		if h, e := hex.DecodeString(t.Hash); e != nil || len(h) != sha256.Size {
			err = errors.New("hash is not a SHA-256 in hexadecimal")
		}
		if err != nil {
			return nil, fmt.Errorf("read tokens of %s: token %q: %w", file, t.Name, err)
		}
	}
	return doc.Tokens, nil
}

// CreateToken adds a token to a file and returns what its holder must show; nobody can read it again. life 0: without end.
func CreateToken(file, name string, role Role, life time.Duration, now time.Time) (secret string, t Token, err error) {
	if err := checkTokenName(name); err != nil {
		return "", t, err
	}
	if role < Viewer || role > Admin {
		return "", t, fmt.Errorf("a token with the role %s is of no use", role)
	}
	var b [secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	secret = tokenPrefix + name + "_" + base64.RawURLEncoding.EncodeToString(b[:])
	hash := sha256.Sum256([]byte(secret))
	t = Token{Name: name, Role: role.String(), Hash: hex.EncodeToString(hash[:]), Created: now.UTC().Truncate(time.Second)}
	if life > 0 {
		t.Expires = now.UTC().Add(life).Truncate(time.Second)
	}
	err = changeTokens(file, func(ts []Token) ([]Token, error) {
		ts = slices.DeleteFunc(ts, func(t Token) bool { return t.Expired(now) && t.Name == name })
		switch {
		case slices.ContainsFunc(ts, func(t Token) bool { return t.Name == name }):
			return nil, fmt.Errorf("token %q exists; windrose token rm %s takes it away", name, name)
		case len(ts) >= maxTokens:
			return nil, fmt.Errorf("there are %d tokens already", len(ts))
		}
		return append(ts, t), nil
	})
	return secret, t, err
}

func checkTokenName(name string) error {
	ok := name != "" && len(name) <= 64
	for _, c := range name {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.')
	}
	if !ok {
		return fmt.Errorf("token name %q: want 1 to 64 letters, digits, dashes and dots", name)
	}
	return nil
}

// RemoveToken takes a token out of a file; the error wraps ErrNotFound when it is not there.
func RemoveToken(file, name string) error {
	return changeTokens(file, func(ts []Token) ([]Token, error) {
		n := len(ts)
		if ts = slices.DeleteFunc(ts, func(t Token) bool { return t.Name == name }); len(ts) == n {
			return nil, fmt.Errorf("token %q: %w in %s", name, ErrNotFound, file)
		}
		return ts, nil
	})
}

// changeTokens reads, changes and replaces a file, so that a reader sees the old or the new one.
func changeTokens(file string, change func([]Token) ([]Token, error)) error {
	ts, err := ReadTokens(file)
	if err != nil {
		return err
	}
	if ts, err = change(ts); err != nil {
		return err
	}
	slices.SortFunc(ts, func(a, b Token) int { return cmp.Compare(a.Name, b.Name) })
	b, err := json.MarshalIndent(tokensDoc{ts}, "", "  ")
	if err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".tokens-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it is of no use; err says why
		return fmt.Errorf("write tokens: %w", err)
	}
	return nil
}

// tokens is what the server knows of its tokens file. The file is read again when it has changed. Guarded by mu.
type tokens struct {
	file string

	mu     sync.Mutex // guards what follows
	looked time.Time
	mod    time.Time
	size   int64
	list   []heldToken
	err    error // of the last reading; what was read before stays
}

// heldToken is a token with its hash as bytes. Immutable.
type heldToken struct {
	Token
	role Role
	hash [sha256.Size]byte
}

// check returns the token of a secret. Every hash is compared in full, so that the time tells nothing.
func (k *tokens) check(secret string, now time.Time) (name string, role Role) {
	if k == nil || !strings.HasPrefix(secret, tokenPrefix) {
		return "", None
	}
	sum := sha256.Sum256([]byte(secret))
	for _, t := range k.current(now) {
		if subtle.ConstantTimeCompare(sum[:], t.hash[:]) == 1 && !t.Expired(now) {
			name, role = t.Name, t.role
		}
	}
	return name, role
}

// current is the tokens as the file has them, at most tokensAge old.
func (k *tokens) current(now time.Time) []heldToken {
	k.mu.Lock()
	defer k.mu.Unlock()
	if age := now.Sub(k.looked); !k.looked.IsZero() && age >= 0 && age < tokensAge {
		return k.list
	}
	k.looked = now
	info, err := os.Stat(k.file)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			k.err = fmt.Errorf("read tokens: %w", err)
			return k.list
		}
		k.mod, k.size, k.list, k.err = time.Time{}, 0, nil, nil
		return nil
	}
	if info.ModTime().Equal(k.mod) && info.Size() == k.size && k.err == nil {
		return k.list
	}
	ts, err := ReadTokens(k.file)
	if k.err = err; err != nil {
		return k.list
	}
	k.mod, k.size, k.list = info.ModTime(), info.Size(), nil
	for _, t := range ts {
		h := heldToken{Token: t}
		h.role, _ = ParseRole(t.Role) // ReadTokens has checked both
		_, _ = hex.Decode(h.hash[:], []byte(t.Hash))
		k.list = append(k.list, h)
	}
	return k.list
}

// broken is why the file could not be read, nil when it could.
func (k *tokens) broken() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}
