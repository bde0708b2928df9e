package app

import (
	"net/http"

	"github.com/windrose-edc/windrose/internal/listen"
	"github.com/windrose-edc/windrose/internal/loop"
	"github.com/windrose-edc/windrose/internal/ws"
)

// webSocket puts WebSocket before the protocol end of a listener, as its specification says.
func (g *graph) webSocket(name string, s *listen.Spec, o ws.Options, accept func(*loop.Conn) loop.Handler) func(*loop.Conn) loop.Handler {
	o.Listener, o.Spec, o.Metrics = name, *s.WebSocket, g.metrics
	srv := ws.NewServer(o, accept)
	if s.WebSocket.Admin {
		if g.web == nil {
			g.web = map[string]*ws.Server{}
		}
		g.web[name] = srv
	}
	return srv.Accept
}

// upgrade gives a request at the admin server's address to the listener whose WebSocket it asks for; false: it is for the
// admin server.
func (a *App) upgrade(w http.ResponseWriter, r *http.Request) bool {
	for _, l := range a.node.live.Load().listeners {
		if at, ok := l.socket.(*listen.Listener); ok && l.web != nil && l.web.Wants(r) {
			l.web.Upgrade(w, r, at.Take)
			return true
		}
	}
	return false
}
