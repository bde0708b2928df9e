package ws

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Spec is what the configuration says of WebSocket on a listener. Immutable after it is read.
type Spec struct {
	Paths    []string      `yaml:"paths" example:"[/mqtt, /]" doc:"Paths that open a WebSocket; requests to others are answered with 404. Empty: /mqtt and /."`
	Origins  []string      `yaml:"origins" example:"[https://app.example.com]" doc:"Origins of web pages that may connect, like https://app.example.com, or *. Programs that are no browsers send none and are not asked. Empty: all."`
	Plain    bool          `yaml:"plain" doc:"Speak the protocol without WebSocket too: the first bytes of a connection tell." default:"false"`
	Admin    bool          `yaml:"admin" doc:"Open these WebSockets at the address of the admin server too, on their paths but /; that must speak plain HTTP over TCP. allow_from and max_connections count there as well, and without origins only pages of that very address may connect." default:"false"`
	MaxFrame int64         `yaml:"max_frame" unit:"size" min:"0" default:"0" doc:"Largest frame of a client; more ends the connection with 1009. 0: no limit of its own, what the protocol allows counts. Frames are never held as a whole."`
	Timeout  time.Duration `yaml:"timeout" min:"1ms" default:"10s" doc:"Time within which a new connection must have sent its request."`
}

func (s *Spec) paths() []string {
	if len(s.Paths) == 0 {
		return []string{"/mqtt", "/"}
	}
	return s.Paths
}

func (s *Spec) timeout() time.Duration {
	if s.Timeout <= 0 {
		return handshakeLimit
	}
	return s.Timeout
}

// Validate checks what the fields' own rules cannot.
func (s *Spec) Validate() error {
	for _, p := range s.Paths {
		if u, err := url.ParseRequestURI(p); !strings.HasPrefix(p, "/") || err != nil || u.RawQuery != "" {
			return fmt.Errorf("path %q: want a path like /mqtt", p)
		}
	}
	for _, o := range s.Origins {
		if u, err := url.Parse(o); o != "*" && o != "null" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "") {
			return fmt.Errorf("origin %q: want scheme and host like https://app.example.com, or *", o)
		}
	}
	return nil
}
