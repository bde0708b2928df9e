package mqtt

import (
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// refuseClosed answers a CONNECT while the node opens no sessions (3.2.2.2): with 0x9C or 0x9D and a Server Reference where
// the client can go elsewhere (4.11), with 0x89 where memory is short, else with 0x88; MQTT 3.x has code 3 for all.
func (m *machine) refuseClosed(c *session.Closed) error {
	m.refused = true
	code := wire.ServerUnavailable
	switch {
	case c.Server != "":
		code = elsewhere(c)
	case c.Why == session.NoMemory:
		code = wire.ServerBusy
	}
	b := m.env.Out()
	out := wire.AppendConnack(b, m.version, false, code, &wire.ConnackProps{ServerReference: []byte(c.Server)})
	if m.maxSend != 0 && len(out)-len(b) > int(m.maxSend) { // [MQTT-3.1.2-24]
		out = wire.AppendConnack(b, m.version, false, code, nil)
	}
	m.env.SetOut(out)
	m.close(&wire.Error{Code: code, Text: "connection refused: " + code.String()})
	return nil
}

func elsewhere(c *session.Closed) wire.Reason {
	if c.Moved {
		return wire.ServerMoved
	}
	return wire.UseAnotherServer
}

// sayClosed ends a connection because the node stops or drains (3.14.2.1): 0x8B, or where to go instead.
func (m *machine) sayClosed() {
	c := m.env.Host().Closed(m.cfg.name)
	if c == nil || c.Server == "" {
		m.say(wire.ServerShuttingDown, "")
		return
	}
	if m.version != wire.V5 {
		return
	}
	b := m.env.Out()
	out := wire.AppendDisconnect(b, m.version, elsewhere(c), &wire.DisconnectProps{ServerReference: []byte(c.Server)})
	if m.maxSend != 0 && len(out)-len(b) > int(m.maxSend) {
		out = wire.AppendDisconnect(b, m.version, elsewhere(c), nil)
	}
	m.env.SetOut(out)
}
