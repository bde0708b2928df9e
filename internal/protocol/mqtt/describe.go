package mqtt

import (
	"time"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// versionNames are the protocol versions as people say them.
var versionNames = map[wire.Version]string{wire.V31: "MQTT 3.1", wire.V311: "MQTT 3.1.1", wire.V5: "MQTT 5"}

// Describe implements session.Describer.
func (m *machine) Describe(f *session.PeerFacts) {
	f.Protocol = versionNames[m.version]
	f.KeepAlive = time.Duration(m.keepAlive) * time.Second
	f.Pending = m.env.Pending()
	if m.hold != nil {
		f.Held = m.hold.n
	}
	if e, ok := m.env.(interface{ describe(f *session.PeerFacts) }); ok {
		e.describe(f)
	}
}

// describe adds what the machine does not know.
func (c *conn) describe(f *session.PeerFacts) { f.Remote, f.TLS = c.c.RemoteAddr(), c.c.TLS() }

// ends tells the session why its connection is about to end.
func (m *machine) ends(err error) {
	if m.s != nil {
		m.s.Ended(m, reasonOf(err))
	}
}
