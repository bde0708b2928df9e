package mqtt

import (
	"fmt"
	"io"
	"testing"

	"github.com/windrose-edc/windrose/internal/ws"
)

// What breaks the framing of WebSocket counts as what breaks the protocol above it does; nothing of it is "other".
func TestReasonOfWebSocket(t *testing.T) {
	for err, want := range map[error]string{
		&ws.Error{Code: ws.ProtocolError, Text: "mask missing"}:             endProtocol,
		&ws.Error{Code: ws.Unacceptable, Text: "text message"}:              endProtocol,
		&ws.Error{Code: ws.TooBig, Text: "frame is too big"}:                endProtocol,
		&ws.Error{Code: ws.InvalidText, Text: "not UTF-8"}:                  endProtocol,
		&ws.Error{Code: ws.Policy, Text: "connection refused"}:              endRefused,
		&ws.Error{Code: ws.Normal, Remote: true}:                            endEOF,
		fmt.Errorf("read: %w", &ws.Error{Code: ws.GoingAway, Remote: true}): endEOF,
		io.EOF: endEOF,
	} {
		if got := reasonOf(err); got != want {
			t.Errorf("%v counts as %s, want %s", err, got, want)
		}
	}
}
