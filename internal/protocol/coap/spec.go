// Package coap speaks CoAP to devices: RFC 7252 over UDP, RFC 8323 over TCP and TLS, with block-wise transfers (RFC 7959),
// observation (RFC 7641) and Echo (RFC 9175), over the codec of package wire. Topics are resources below /ps: PUT publishes
// and retains, POST publishes an event, GET reads the last value, GET with Observe subscribes.
//
// # Concurrency
//
// Everything that is known of a client belongs to one loop: the socket that read its request, its session, its timers. A
// Server is immutable after NewServer and safe for concurrent use; it has one desk for each loop.
package coap

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/listen"
	"github.com/windrose-edc/windrose/internal/session"
)

// ListenerSpec is what the configuration says of a CoAP listener. Immutable after it is read.
type ListenerSpec struct {
	listen.Spec `yaml:",inline"`

	Transport     string        `yaml:"transport" enum:"udp|tcp|dtls" default:"udp" doc:"udp; dtls, with psk or tls or both; or tcp (RFC 8323), which with tls is coaps+tcp."`
	PSK           config.Secret `yaml:"psk" unit:"secret" doc:"Table of pre-shared keys for transport dtls: lines identity:key, the key in hexadecimal. Who they are is said by auth, type psk."`
	Anonymous     bool          `yaml:"anonymous" doc:"Admit clients that show no credentials."`
	MaxBody       int           `yaml:"max_body" unit:"size" default:"256KiB" min:"1KiB" max:"64MiB" doc:"Largest body of a request, in blocks or whole; a larger one is answered with 4.13 and this size."`
	Block         int           `yaml:"block" unit:"size" default:"1KiB" min:"16" max:"1KiB" doc:"Largest block that is sent: a power of two."`
	Transfers     int           `yaml:"transfers" default:"4" min:"1" max:"64" doc:"Block-wise uploads, and as many downloads, that one client may have under way."`
	TransferBytes int64         `yaml:"transfer_bytes" unit:"size" default:"64MiB" min:"64KiB" doc:"Bytes of block-wise transfers that are under way, of all clients."`
	Observations  int           `yaml:"observations" default:"64" min:"0" max:"4096" doc:"Observations of one client."`
	Peers         int           `yaml:"peers" default:"100000" min:"16" doc:"Addresses of which something is remembered, over udp; from three quarters on, a new one must show that it is reachable first."`
	Idle          time.Duration `yaml:"idle" default:"247s" min:"10s" doc:"How long an address without observations is remembered."`
	ObserverCheck time.Duration `yaml:"observer_check" default:"5m" min:"10s" max:"24h" doc:"How often, at least, an observer must show that it is there."`
	AckTimeout    time.Duration `yaml:"ack_timeout" default:"2s" min:"1s" max:"1m" doc:"ACK_TIMEOUT of RFC 7252: after this time, and up to half as much more, a message without acknowledgement is sent again."`
	Retransmit    int           `yaml:"max_retransmit" default:"4" min:"0" max:"10" doc:"MAX_RETRANSMIT of RFC 7252: how often a message without acknowledgement is sent again."`
	Duplicates    int           `yaml:"duplicates" default:"262144" min:"1024" doc:"Requests that are remembered for their exchange lifetime, so that a duplicate is answered and not done again."`
	Queue         int           `yaml:"queue" default:"0" min:"0" doc:"Events that may wait for one client. 0: that of sessions."`
	QueueBytes    int64         `yaml:"queue_bytes" unit:"size" default:"0" min:"0" doc:"Bytes of events that may wait for one client. 0: that of sessions."`
	Sessions      int           `yaml:"sessions" default:"0" min:"0" doc:"Sessions that may be opened by this listener. 0: no bound but that of sessions."`

	ConnectionID        bool          `yaml:"connection_id" default:"true" doc:"Connection IDs for transport dtls (RFC 9146): a device that has one is known when its address changes."`
	SleepsFor           time.Duration `yaml:"sleeps_for" default:"168h" min:"1m" doc:"How long a DTLS peer with a Connection ID may be silent before it must shake hands again; 15 minutes without."`
	Handshakes          int           `yaml:"handshakes" default:"512" min:"1" doc:"DTLS handshakes that may be under way; only of addresses that answered a cookie."`
	HandshakesPerPrefix int           `yaml:"handshakes_per_prefix" default:"64" min:"1" doc:"The same, of one /24 (IPv4) or /48 (IPv6)."`
}

// DefaultListener is a listener with the defaults of its fields.
func DefaultListener() ListenerSpec {
	return ListenerSpec{Transport: udp, MaxBody: 256 << 10, Block: 1 << 10, Transfers: 4, TransferBytes: 64 << 20, Observations: 64,
		Peers: 100_000, Idle: 247 * time.Second, ObserverCheck: 5 * time.Minute, AckTimeout: 2 * time.Second, Retransmit: 4, Duplicates: 1 << 18,
		ConnectionID: true, SleepsFor: 7 * 24 * time.Hour, Handshakes: 512, HandshakesPerPrefix: 64}
}

const (
	udp = "udp"
	tcp = "tcp"

	overDTLS = "dtls"
)

// Datagrams says whether the listener is one of packets.
func (s *ListenerSpec) Datagrams() bool { return s.Transport != tcp }

// Validate checks what the fields' own rules cannot.
func (s *ListenerSpec) Validate() error {
	if err := s.Check(); err != nil {
		return err
	}
	_, err := s.settings("", 1)
	return err
}

// settings is a listener's specification in the form that its desks use. Immutable.
type settings struct {
	name          string
	datagrams     bool
	maxBody       int
	szx           uint8
	transfers     int
	transferBytes int64 // of one loop
	observations  int
	peers         int // of one loop
	duplicates    int // of one loop
	idle, check   int64
	ackTimeout    int64
	retransmit    int
	bounds        *session.Bounds
}

func (s *ListenerSpec) settings(name string, loops int) (*settings, error) {
	if bits.OnesCount(uint(s.Block)) != 1 {
		return nil, fmt.Errorf("block: %d is not a power of two", s.Block)
	}
	if s.Datagrams() {
		switch {
		case s.TLS != "" && s.Transport != overDTLS:
			return nil, errors.New("tls: transport udp has none; say transport: dtls")
		case s.ProxyProtocol:
			return nil, errors.New("proxy_protocol: transport udp has none")
		}
	}
	switch {
	case s.Transport == overDTLS && s.PSK.IsZero() && s.TLS == "":
		return nil, errors.New("transport: dtls needs psk, the table of pre-shared keys, or tls")
	case s.Transport != overDTLS && !s.PSK.IsZero():
		return nil, errors.New("psk: only transport dtls has pre-shared keys")
	}
	if s.WebSocket != nil {
		return nil, errors.New("websocket: CoAP is not spoken over WebSocket")
	}
	loops = max(loops, 1)
	return &settings{name: name, datagrams: s.Datagrams(), maxBody: s.MaxBody, szx: uint8(bits.TrailingZeros(uint(s.Block)) - 4), transfers: s.Transfers,
		transferBytes: max(s.TransferBytes/int64(loops), int64(s.MaxBody)), observations: s.Observations, peers: max(s.Peers/loops, 16),
		duplicates: max(s.Duplicates/loops, 256), idle: int64(s.Idle), check: int64(s.ObserverCheck), ackTimeout: int64(s.AckTimeout), retransmit: s.Retransmit,
		bounds: &session.Bounds{Queue: s.Queue, QueueBytes: s.QueueBytes, Sessions: s.Sessions}}, nil
}
