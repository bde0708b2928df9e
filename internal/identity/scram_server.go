package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/windrose-edc/windrose/internal/event"
)

// Errors of a SCRAM exchange. ErrScramMessage is a peer that does not keep to RFC 5802; ErrScramRefused is a name or a
// password that is not right, and does not say which.
var (
	ErrScramMessage = errors.New("malformed SCRAM message")
	ErrScramRefused = errors.New("SCRAM authentication refused")
)

const (
	maxScramMessage = 4096 // bytes
	maxScramNonce   = 512  // bytes, the client's part
	scramNonceLen   = 24   // random bytes of ours; a multiple of 3, so that base64 has no padding
)

// The states of an exchange.
const (
	scramNew = iota
	scramChallenged
	scramOver
)

// ScramServer is the server's side of one SCRAM-SHA-256 exchange (RFC 5802, RFC 7677), without channel binding: "n" and
// "y" are accepted, "p" is refused. Its work is a few hashes, so a loop may do it. A name that does not exist gets a
// challenge like any other and is refused at the end.
//
// User names and passwords are compared as they are: of SASLprep (RFC 4013) only the ban of control characters is
// done, no normalisation. Owned by the session that runs the exchange; used once.
type ScramServer struct {
	users []*Users
	nonce string // our part; set by tests

	state    int
	record   *record // nil: no such user
	names    *naming // of its file
	verifier *scramVerifier
	gs2      string // header of the client's first message
	bare     string // rest of the client's first message
	first    string // our challenge
	full     string // nonce of both
}

// NewScramServer starts an exchange over users files, asked in order. See Chain.Scram.
func NewScramServer(users ...*Users) *ScramServer { return &ScramServer{users: users} }

// Start takes the client's first message and returns the challenge to send. The error wraps ErrScramMessage; the exchange
// is over then.
func (s *ScramServer) Start(first []byte) (challenge []byte, err error) {
	if s.state != scramNew {
		s.state = scramOver
		return nil, fmt.Errorf("%w: first message twice", ErrScramMessage)
	}
	s.state = scramOver
	name, clientNonce, err := s.parseFirst(first)
	if err != nil {
		return nil, err
	}
	s.find(name)
	if s.nonce == "" {
		var b [scramNonceLen]byte
		_, _ = rand.Read(b[:])
		s.nonce = base64.StdEncoding.EncodeToString(b[:])
	}
	s.full = clientNonce + s.nonce
	s.first = "r=" + s.full + ",s=" + base64.StdEncoding.EncodeToString(s.verifier.salt) + ",i=" + strconv.Itoa(s.verifier.iterations)
	s.state = scramChallenged
	return []byte(s.first), nil
}

// find looks the name up in all files. Where none has a verifier for it, one is made up that is always the same.
func (s *ScramServer) find(name string) {
	for _, u := range s.users {
		if r := u.table.Load().byName[name]; r != nil && r.scram != nil {
			s.record, s.verifier, s.names = r, r.scram, &u.names
			return
		}
	}
	for _, u := range s.users {
		if t := u.table.Load(); len(t.scrams) > 0 || s.verifier == nil {
			s.verifier = t.decoyScram(name)
			if len(t.scrams) > 0 {
				return
			}
		}
	}
	if s.verifier == nil {
		s.verifier = newTable(nil, nil).decoyScram(name)
	}
}

// parseFirst reads client-first-message (RFC 5802, section 7): "n,[a=authzid],n=name,r=nonce[,extensions]".
func (s *ScramServer) parseFirst(first []byte) (name, nonce string, err error) {
	if len(first) > maxScramMessage || !event.ValidUTF8(first) {
		return "", "", fmt.Errorf("%w: too long or not UTF-8 text", ErrScramMessage)
	}
	f := strings.Split(string(first), ",")
	if len(f) < 4 {
		return "", "", fmt.Errorf("%w: want n,,n=name,r=nonce", ErrScramMessage)
	}
	switch {
	case strings.HasPrefix(f[0], "p="):
		return "", "", fmt.Errorf("%w: channel binding is not supported", ErrScramMessage)
	case f[0] != "n" && f[0] != "y":
		return "", "", fmt.Errorf("%w: unknown channel binding flag", ErrScramMessage)
	case strings.HasPrefix(f[2], "m="):
		return "", "", fmt.Errorf("%w: mandatory extensions are not supported", ErrScramMessage)
	}
	s.gs2 = f[0] + "," + f[1] + ","
	s.bare = string(first[len(s.gs2):])
	name, ok := scramName(f[2], "n=")
	if !ok {
		return "", "", fmt.Errorf("%w: bad user name", ErrScramMessage)
	}
	if f[1] != "" { // acting for somebody else is not supported, acting for oneself is
		if who, ok := scramName(f[1], "a="); !ok || who != name {
			return "", "", fmt.Errorf("%w: authorization identity must be the user", ErrScramMessage)
		}
	}
	nonce, ok = strings.CutPrefix(f[3], "r=")
	if !ok || !printable(nonce) || len(nonce) > maxScramNonce {
		return "", "", fmt.Errorf("%w: bad nonce", ErrScramMessage)
	}
	return name, nonce, nil
}

// Finish takes the client's final message. Where the proof is right it returns the principal and the final message that
// proves us to the client. Otherwise the error wraps ErrScramRefused or ErrScramMessage, and serverFinal is the "e=" to
// send where the protocol has room for it.
func (s *ScramServer) Finish(final []byte) (serverFinal []byte, p Principal, err error) {
	if s.state != scramChallenged {
		s.state = scramOver
		return []byte("e=other-error"), Principal{}, fmt.Errorf("%w: final message without challenge", ErrScramMessage)
	}
	s.state = scramOver
	proof, withoutProof, err := s.parseFinal(final)
	if err != nil {
		return []byte("e=other-error"), Principal{}, err
	}
	auth := []byte(s.bare + "," + s.first + "," + withoutProof)
	clientKey := mac(s.verifier.stored, auth)
	subtle.XORBytes(clientKey, clientKey, proof)
	stored := sha256.Sum256(clientKey)
	right := subtle.ConstantTimeCompare(stored[:], s.verifier.stored) == 1
	if !right || s.record == nil {
		return []byte("e=invalid-proof"), Principal{}, ErrScramRefused
	}
	serverFinal = append([]byte("v="), base64.StdEncoding.EncodeToString(mac(s.verifier.server, auth))...)
	p, d := s.record.principal("scram-sha-256", s.names)
	if d != Admitted {
		return []byte("e=other-error"), Principal{}, ErrScramRefused
	}
	return serverFinal, p, nil
}

// parseFinal reads client-final-message: "c=binding,r=nonce[,extensions],p=proof".
func (s *ScramServer) parseFinal(final []byte) (proof []byte, withoutProof string, err error) {
	if len(final) > maxScramMessage || !event.ValidUTF8(final) {
		return nil, "", fmt.Errorf("%w: too long or not UTF-8 text", ErrScramMessage)
	}
	at := bytes.LastIndex(final, []byte(",p="))
	if at < 0 {
		return nil, "", fmt.Errorf("%w: no proof", ErrScramMessage)
	}
	proof, err = base64.StdEncoding.Strict().DecodeString(string(final[at+3:]))
	if err != nil || len(proof) != sha256.Size {
		return nil, "", fmt.Errorf("%w: bad proof", ErrScramMessage)
	}
	withoutProof = string(final[:at])
	f := strings.Split(withoutProof, ",")
	if len(f) < 2 || f[0] != "c="+base64.StdEncoding.EncodeToString([]byte(s.gs2)) {
		return nil, "", fmt.Errorf("%w: channel binding does not fit the first message", ErrScramMessage)
	}
	if f[1] != "r="+s.full {
		return nil, "", fmt.Errorf("%w: not the nonce of the challenge", ErrScramMessage)
	}
	return proof, withoutProof, nil
}

// scramName reads a saslname: "=2C" is a comma, "=3D" an equals sign, any other "=" is wrong.
func scramName(s, prefix string) (string, bool) {
	s, ok := strings.CutPrefix(s, prefix)
	if !ok || s == "" {
		return "", false
	}
	if !strings.Contains(s, "=") {
		return s, true
	}
	var b strings.Builder
	for {
		lit, rest, found := strings.Cut(s, "=")
		b.WriteString(lit)
		if !found {
			return b.String(), true
		}
		switch {
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = rest[2:]
	}
}

// printable says whether s is a nonce: visible ASCII without the comma.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == ',' {
			return false
		}
	}
	return s != ""
}

// scramPassword says whether a password can be used with SCRAM as it is.
func scramPassword(password []byte) bool { return event.ValidUTF8(password) }

// ParsePlain reads the message of SASL PLAIN (RFC 4616): [authzid] NUL authcid NUL password. An authorization identity
// that is not the user is refused. password points into msg.
func ParsePlain(msg []byte) (user string, password []byte, err error) {
	f := bytes.Split(msg, []byte{0})
	if len(f) != 3 || len(f[1]) == 0 || !event.ValidUTF8(f[1]) {
		return "", nil, errors.New("malformed PLAIN message")
	}
	if len(f[0]) > 0 && !bytes.Equal(f[0], f[1]) {
		return "", nil, errors.New("malformed PLAIN message: authorization identity must be the user")
	}
	return string(f[1]), f[2], nil
}
