package app

import (
	"crypto/tls"
	"path/filepath"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/observe"
)

// AdminSpec is what the section node says of the admin server besides its address. Immutable after it is read.
type AdminSpec struct {
	Socket   string   `yaml:"admin_socket" restart:"true" unit:"file" doc:"Unix socket of the admin server; who may open it may do everything. Empty: admin.sock in the data folder, where that is possible; none: no socket. A change needs a restart."`
	Group    bool     `yaml:"admin_socket_group" restart:"true" doc:"Members of the process's group may open the socket too (mode 0660 instead of 0600). A change needs a restart."`
	TLS      string   `yaml:"admin_tls" restart:"true" ref:"tls" doc:"Certificate for the admin address; empty: plain HTTP. A change needs a restart, the certificate's files do not."`
	Tokens   string   `yaml:"admin_tokens" restart:"true" unit:"file" doc:"Tokens file, kept by windrose token; empty: admin-tokens.json in the data folder. A change of the name needs a restart, the tokens do not."`
	Loopback string   `yaml:"admin_loopback" restart:"true" enum:"none|viewer|operator|admin" default:"viewer" doc:"What the admin address gives without a token when it is asked from this machine: none, to see (viewer), to act on what runs (operator), or everything (admin). From elsewhere a token is always needed. A change needs a restart."`
	Hosts    []string `yaml:"admin_hosts" restart:"true" doc:"Names in the Host header that are served besides loopback and addresses. Empty: on loopback none, elsewhere all. A change needs a restart."`
}

// noSocket is the word for it in the configuration. It is read as a file path, so that what arrives here may stand in the
// folder of the configuration: no socket has that name anywhere.
const noSocket = "none"

// SocketFile is where the unix socket of the admin server is wanted; "": nowhere.
func (n *NodeSpec) SocketFile() string {
	switch {
	case n.Socket == "":
		return filepath.Join(n.Data, admin.SocketFile)
	case filepath.Base(n.Socket) == noSocket:
		return ""
	}
	return n.Socket
}

// adminOptions are the surroundings of the admin server.
func (a *App) adminOptions() admin.Options {
	b := a.node.boot
	o := admin.Options{
		Addr: b.Admin, Socket: b.SocketFile(), Group: b.Group, Tokens: b.Tokens, Hosts: b.Hosts,
		Registry: a.metrics, Node: (*status)(a), Operable: a, Logger: a.o.Logger.With(observe.ComponentKey, "admin"), Logs: a.o.Logs, Version: a.o.Version,
	}
	o.SocketNeeded = b.AdminSpec.Socket != "" && o.Socket != ""
	if o.Tokens == "" {
		o.Tokens = filepath.Join(b.Data, admin.TokensFile)
	}
	o.Loopback, _ = admin.ParseRole(b.Loopback) // none is none, and nothing else gets here
	if name := b.AdminSpec.TLS; name != "" {
		o.TLS = func() *tls.Config {
			c := a.node.live.Load().tls[name].Config().Clone()
			c.NextProtos = []string{"http/1.1"}
			return c
		}
	}
	return o
}

// adminNotes are what an operator must know of the admin address.
func (n *graph) adminNotes() (notes []string) {
	b := n.boot
	if b.Admin == "" || loopbackOnly(b.Admin) {
		return nil
	}
	if b.AdminSpec.TLS == "" {
		notes = append(notes, "The admin address is reachable from elsewhere without TLS (node.admin_tls): tokens travel readable.")
	}
	return notes
}
