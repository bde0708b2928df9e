package ws

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/windrose-edc/windrose/internal/loop"
)

// Code is why a connection is closed (RFC 6455, 7.4.1).
type Code uint16

// The codes that are sent here.
const (
	Normal        Code = 1000
	GoingAway     Code = 1001 // the node stops
	ProtocolError Code = 1002
	Unacceptable  Code = 1003 // a text message where bytes are spoken
	NoCode        Code = 1005 // never on the wire: a close frame without a code
	InvalidText   Code = 1007 // text that is not UTF-8
	Policy        Code = 1008 // whatever has no code of its own
	TooBig        Code = 1009
	Internal      Code = 1011
)

// valid says whether a peer may send the code: 7.4.1 with what was registered since, and 7.4.2.
func (c Code) valid() bool {
	return c >= 1000 && c <= 1014 && c != 1004 && c != 1005 && c != 1006 || c >= 3000 && c <= 4999
}

// Error is why the framing ends a connection. Immutable.
type Error struct {
	Code   Code
	Text   string
	Remote bool // the peer said so in its close frame, and is gone
}

func (e *Error) Error() string {
	switch {
	case !e.Remote:
		return fmt.Sprintf("websocket: %s (%d)", e.Text, e.Code)
	case e.Text != "":
		return fmt.Sprintf("websocket: closed by the peer (%d): %q", e.Code, e.Text)
	default:
		return fmt.Sprintf("websocket: closed by the peer (%d)", e.Code)
	}
}

// Unwrap says io.EOF for what the peer closed.
func (e *Error) Unwrap() error {
	if e.Remote {
		return io.EOF
	}
	return nil
}

// codeOf is what a peer is told when a connection ends for that reason. protocol, which may be nil, knows the errors of
// the protocol above; it answers 0 for others.
func codeOf(err error, protocol func(error) Code) Code {
	var own *Error
	switch {
	case errors.As(err, &own):
		return own.Code
	case errors.Is(err, loop.ErrStopped):
		return GoingAway
	case errors.Is(err, loop.ErrInputFull):
		return TooBig
	case errors.Is(err, loop.ErrPanic):
		return Internal
	}
	if protocol != nil {
		if c := protocol(err); c != 0 {
			return c
		}
	}
	if err == nil || errors.Is(err, io.EOF) {
		return Normal
	}
	return Policy
}

// appendClose appends a close frame of a server (5.5.1); text is cut to what fits.
func appendClose(b []byte, code Code, text string) []byte {
	if code == NoCode {
		return append(b, finBit|opClose, 0)
	}
	if len(text) > maxControl-2 {
		n := maxControl - 2
		for !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n]
	}
	text = strings.ToValidUTF8(text, "?")
	b = append(b, finBit|opClose, byte(2+len(text)), byte(code>>8), byte(code))
	return append(b, text...)
}

// parseClose reads the payload of a close frame: 5.5.1, 7.4, 8.1.
func parseClose(b []byte) *Error {
	if len(b) == 0 {
		return &Error{Code: NoCode, Remote: true}
	}
	if len(b) == 1 {
		return violation("close frame with half a code")
	}
	code := Code(b[0])<<8 | Code(b[1])
	if !code.valid() {
		return violation("close code that may not be sent")
	}
	if !utf8.Valid(b[2:]) {
		return &Error{Code: InvalidText, Text: "close reason is not UTF-8"}
	}
	return &Error{Code: code, Text: string(b[2:]), Remote: true}
}

func violation(text string) *Error { return &Error{Code: ProtocolError, Text: text} }
