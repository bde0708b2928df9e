// Package listen opens listeners as a configuration describes them: address, TLS with certificates that can be
// reloaded, PROXY protocol, limits. What the bytes mean is the business of the Handler that is given.
//
// # Concurrency
//
// A Listener and a TLS are safe for concurrent use. Files are read in NewTLS and TLS.Reload only, by the caller's
// goroutine; handshakes use what was loaded.
package listen

import "github.com/windrose-edc/windrose/internal/ws"

// Spec is one listener of the configuration. Immutable once opened.
type Spec struct {
	Bind           string   `yaml:"bind" unit:"addr" required:"true" doc:"Address to listen on: host:port, [v6]:port, or :port for all addresses, IPv4 and IPv6."`
	TLS            string   `yaml:"tls" ref:"tls" doc:"Name of an entry under tls:; without it the listener is not encrypted."`
	ProxyProtocol  bool     `yaml:"proxy_protocol" doc:"Expect a PROXY protocol header (version 1 or 2) before anything else; connections without one are closed. Use allow_from to name the proxies." default:"false"`
	MaxConnections int      `yaml:"max_connections" min:"0" doc:"Open connections at the same time; more are refused. 0: no limit." default:"0"`
	AllowFrom      []string `yaml:"allow_from" unit:"cidr" doc:"Addresses or networks (CIDR) that may connect; empty: all. With proxy_protocol these are the proxies."`

	WebSocket *ws.Spec `yaml:"websocket" doc:"Speak the protocol over WebSocket. {} takes the defaults; without the key WebSocket is not spoken."`
}
