package config

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
)

// Secret is a secret's value that cannot be printed by accident. A module that does not import this package may use a
// string with unit:"secret" instead; then keeping it out of logs is its own business. Immutable.
type Secret struct {
	name  string
	value string
}

// Reveal returns the value.
func (s Secret) Reveal() string { return s.value }

// Name is the entry of the section secrets, "" for no secret.
func (s Secret) Name() string { return s.name }

// IsZero says whether there is no secret.
func (s Secret) IsZero() bool { return s.name == "" }

// String is "<secret NAME>".
func (s Secret) String() string {
	if s.name == "" {
		return "<no secret>"
	}
	return "<secret " + s.name + ">"
}

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// Format writes String under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String: JSON, YAML and text encodings show the name only.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// resolved is a secret with its value. Immutable.
type resolved struct {
	value  string
	digest string // of the value, comparable within this process only
}

// digestKey makes digests of secrets useless to anybody outside this process: a secret can be guessable.
var digestKey = sync.OnceValue(func() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never returns an error
	return key
})

func digest(value string) string {
	m := hmac.New(sha256.New, digestKey())
	m.Write([]byte(value))
	return hex.EncodeToString(m.Sum(nil))
}

// resolveSecrets reads the values of all entries of the section secrets.
func (l *loader) resolveSecrets() {
	for _, e := range l.entries[secretsSection] {
		src, ok := e.Spec.(*SecretSource)
		if !ok || e.tree == nil {
			continue
		}
		path := joinPath(secretsSection, e.Name)
		value := ""
		if src.Env != "" {
			v, ok := "", false
			if l.env != nil {
				v, ok = l.env(src.Env)
			}
			if !ok {
				l.fail(e.Pos, path, "environment variable "+src.Env+" is not set", "set it, or use { file: /path }")
				continue
			}
			value = v
		} else {
			b, err := l.schema.readSecret(src.File)
			if err != nil {
				l.fail(e.Pos, path, "the file "+src.File+" cannot be read: "+reason(err), "")
				continue
			}
			value = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
		}
		if value == "" {
			l.fail(e.Pos, path, "the secret is empty", "")
			continue
		}
		r := &resolved{value: value, digest: digest(value)}
		l.secrets[e.Name] = r
		e.secrets = []string{r.digest}
	}
}

// decodeSecret reads { secret: NAME }. What is written there instead is never shown.
func (l *loader) decodeSecret(n *node, path string) (Secret, *tree) {
	fix := "write { secret: NAME } and name its origin under secrets: as NAME: { file: /path } or NAME: { env: VARIABLE }"
	switch n.kind {
	case kindNull, kindBool, kindInt, kindFloat, kindText, kindList:
		what := "a value written out"
		switch {
		case n.kind == kindNull:
			what = "nothing"
		case n.kind == kindList:
			what = "a list"
		case n.env != "":
			what = n.quote()
			fix = "write { secret: NAME } and name its origin under secrets: as NAME: { env: " + n.env + " }"
		default:
			if _, ok := l.names[secretsSection][n.text]; ok {
				what, fix = "the name alone", "write { secret: "+n.text+" }"
			}
		}
		l.fail(n.pos, path, "expected a secret like { secret: NAME }, got "+what, fix)
		return Secret{}, nil
	case kindBad:
		return Secret{}, nil
	case kindMap:
	}
	_, v := n.get("secret")
	if v == nil || len(n.keys) != 1 {
		l.fail(n.pos, path, "expected a secret like { secret: NAME }, got a map of other keys", fix)
		return Secret{}, nil
	}
	if v.kind != kindText || v.text == "" {
		l.fail(v.pos, path+".secret", "expected the name of a secret, got something else", fix)
		return Secret{}, nil
	}
	if _, ok := l.names[secretsSection][v.text]; !ok {
		// A value written in place of the name must not be shown: only what is near a name that exists is.
		msg, more := "secrets has no such entry", "add it under secrets: as NAME: { file: /path } or NAME: { env: VARIABLE }"
		if near := nearest(v.text, l.nameList(secretsSection)); near != "" {
			msg, more = "secrets has no entry "+quoteShort(v.text), "did you mean '"+near+"'?"
		}
		l.fail(v.pos, path+".secret", msg, more)
		return Secret{}, nil
	}
	r, ok := l.secrets[v.text]
	if !ok {
		return Secret{}, nil // its origin was reported
	}
	l.use(secretsSection, v.text, r.digest)
	s := Secret{name: v.text, value: r.value}
	return s, &tree{text: s.String(), isText: true}
}

// scrub takes the values of all secrets out of a text that a module wrote.
func (l *loader) scrub(s string) string {
	for name, r := range l.secrets {
		quoted := strconv.Quote(r.value)
		for _, v := range []string{quoted[1 : len(quoted)-1], r.value} {
			if strings.Contains(s, v) {
				s = strings.ReplaceAll(s, v, "<secret "+name+">")
			}
		}
	}
	return s
}
