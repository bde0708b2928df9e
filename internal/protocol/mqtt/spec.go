// Package mqtt speaks MQTT 3.1, 3.1.1 and 5: the server end (a machine per connection over the codec of package wire),
// and the client end, which bridges and tools use.
//
// # Concurrency
//
// A machine and its connection belong to one loop. A Server is immutable after New and safe for concurrent use. The
// client end has goroutines of its own; see Client.
package mqtt

import (
	"errors"
	"fmt"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/listen"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/session"
)

// KeepAliveRange bounds the keep alive that clients may ask for. Immutable.
type KeepAliveRange struct {
	Min, Max time.Duration
}

// ListenerSpec is what the configuration says of an MQTT listener. Immutable after it is read.
type ListenerSpec struct {
	listen.Spec `yaml:",inline"`

	Accept         []string       `yaml:"accept" doc:"Protocol versions that are spoken: 3.1, 3.1.1, 5. Empty: all."`
	Anonymous      bool           `yaml:"anonymous" doc:"Admit clients that show no credentials."`
	MaxPacket      int            `yaml:"max_packet" unit:"size" default:"1MiB" min:"1KiB" max:"256MiB" doc:"Largest packet that is accepted from a client."`
	KeepAlive      KeepAliveRange `yaml:"keepalive" unit:"range" doc:"Keep alive that clients get; MQTT 5 clients are told, 3.x clients are held to what they asked for."`
	SessionExpiry  time.Duration  `yaml:"session_expiry" default:"168h" doc:"Longest time that a session is kept without a connection; 0: sessions end with their connection."`
	ConnectTimeout time.Duration  `yaml:"connect_timeout" default:"10s" doc:"Time within which a new connection must have sent its CONNECT."`
	TopicAliases   int            `yaml:"topic_aliases" default:"10" max:"65535" doc:"Topic aliases that an MQTT 5 client may use."`
	AliasesOut     int            `yaml:"topic_aliases_out" default:"16" min:"0" max:"64" doc:"Topic aliases that are used towards an MQTT 5 client that allows them."`
	MaxQoS         int            `yaml:"max_qos" default:"2" min:"0" max:"2" doc:"Highest QoS that clients may publish with and that subscriptions are granted; MQTT 5 clients are told."`
	Retain         bool           `yaml:"retain" default:"true" doc:"Let clients publish retained events; MQTT 5 clients are told."`
	Wildcards      bool           `yaml:"wildcards" default:"true" doc:"Let clients subscribe with wildcards; MQTT 5 clients are told."`
	Shared         string         `yaml:"shared" enum:"all|v5|off" default:"all" doc:"Who may use shared subscriptions; MQTT 5 clients are told. MQTT 3.x does not know them, but many clients use them there."`
	TopicLevels    int            `yaml:"topic_levels" default:"128" min:"0" max:"65536" doc:"Levels that a topic or a filter may have. 0: no bound."`
	Subscriptions  int            `yaml:"subscriptions" default:"0" min:"0" doc:"Subscriptions of one client. 0: that of sessions."`
	MaxInflight    int            `yaml:"max_inflight" default:"0" min:"0" max:"65535" doc:"Deliveries to one client that may be without acknowledgement. 0: that of sessions."`
	Receive        int            `yaml:"receive_maximum" default:"0" min:"0" max:"8192" doc:"Events of one client that may be without an answer; MQTT 5 clients are told. 0: that of sessions."`
	Queue          int            `yaml:"queue" default:"0" min:"0" doc:"Events that may wait for one client. 0: that of sessions."`
	QueueBytes     int64          `yaml:"queue_bytes" unit:"size" default:"0" min:"0" doc:"Bytes of events that may wait for one client. 0: that of sessions."`
	Sessions       int            `yaml:"sessions" default:"0" min:"0" doc:"Sessions that may be opened by this listener, with and without a connection. 0: no bound but that of sessions."`
	ResponseInfo   string         `yaml:"response_information" doc:"Topic that an MQTT 5 client is told when it asks where it may have responses sent; {client} is its identifier." example:"replies/{client}"`
	OnReject       string         `yaml:"on_reject" enum:"ack|disconnect|silent" default:"ack" doc:"What an MQTT 3.x publisher sees when a policy refuses its event; it has no negative acknowledgement."`
	OnHold         string         `yaml:"on_hold" enum:"pause|drop_qos0|disconnect" default:"pause" doc:"What happens when more publishes arrive than may be held for a limit."`
	HoldBytes      int            `yaml:"hold_bytes" unit:"size" default:"64KiB" doc:"Bytes of publishes that one connection may have held; one packet is always allowed."`
	MaxOutput      int            `yaml:"max_output" unit:"size" default:"1MiB" doc:"Unsent bytes from which on a connection counts as slow: QoS 0 events are dropped, others wait in the session."`
}

// DefaultListener is a listener with the defaults of its fields.
func DefaultListener() ListenerSpec {
	return ListenerSpec{MaxPacket: 1 << 20, SessionExpiry: 168 * time.Hour, ConnectTimeout: 10 * time.Second, TopicAliases: 10,
		AliasesOut: 16, MaxQoS: 2, Retain: true, Wildcards: true, Shared: "all", TopicLevels: 128,
		OnReject: "ack", OnHold: "pause", HoldBytes: 64 << 10, MaxOutput: 1 << 20}
}

// rule is what an MQTT 3.x publisher sees of a refusal.
type rule uint8

const (
	ruleAck rule = iota
	ruleDisconnect
	ruleSilent
)

// settings is a listener's specification in the form that the machine uses. Immutable.
type settings struct {
	name       string
	accept     [6]bool // by protocol level
	maxPacket  uint32
	keepMin    uint16 // seconds
	keepMax    uint16 // 0: no bound
	expiry     uint32 // seconds
	connectIn  time.Duration
	aliases    uint16
	onReject   rule
	onHold     string
	holdBytes  int
	maxOut     int
	receiveMax uint16
	aliasesOut uint16
	maxQoS     byte
	retain     bool
	wildcards  bool
	shared     [6]bool // by protocol level
	levels     int     // 0: no bound
	bounds     *session.Bounds
	respond    *event.Template // nil: clients are told nothing
}

// Validate checks what the fields' own rules cannot.
func (s *ListenerSpec) Validate() error {
	if err := s.Check(); err != nil {
		return err
	}
	_, err := s.settings("", 0)
	return err
}

func (s *ListenerSpec) settings(name string, receiveMax int) (*settings, error) {
	c := &settings{name: name, maxPacket: uint32(s.MaxPacket), expiry: uint32(s.SessionExpiry / time.Second), connectIn: s.ConnectTimeout,
		aliases: uint16(s.TopicAliases), onHold: s.OnHold, holdBytes: s.HoldBytes, maxOut: s.MaxOutput, receiveMax: uint16(min(receiveMax, 0xffff))}
	c.aliasesOut, c.maxQoS, c.retain, c.wildcards = uint16(min(s.AliasesOut, aliasOutMax)), byte(s.MaxQoS), s.Retain, s.Wildcards
	c.levels = s.TopicLevels
	c.shared[wire.V5] = s.Shared != "off"
	c.shared[wire.V31], c.shared[wire.V311] = s.Shared == "all", s.Shared == "all"
	if s.Receive > 0 {
		c.receiveMax = uint16(s.Receive)
	}
	c.bounds = &session.Bounds{Subscriptions: s.Subscriptions, Window: s.MaxInflight, Receive: s.Receive, Queue: s.Queue, QueueBytes: s.QueueBytes,
		Sessions: s.Sessions}
	if s.ResponseInfo != "" {
		t, err := event.ParseTemplate(s.ResponseInfo)
		if err != nil {
			return nil, fmt.Errorf("response_information: %w", err)
		}
		for _, n := range t.Names() {
			if n != "client" {
				return nil, fmt.Errorf("response_information: {%s} is not {client}", n)
			}
		}
		c.respond = &t
	}
	if len(s.Accept) == 0 {
		c.accept[wire.V31], c.accept[wire.V311], c.accept[wire.V5] = true, true, true
	}
	for _, v := range s.Accept {
		switch v {
		case "3.1":
			c.accept[wire.V31] = true
		case "3.1.1":
			c.accept[wire.V311] = true
		case "5", "5.0":
			c.accept[wire.V5] = true
		default:
			return nil, fmt.Errorf("unknown MQTT version %q: 3.1, 3.1.1 or 5", v)
		}
	}
	switch s.OnReject {
	case "disconnect":
		c.onReject = ruleDisconnect
	case "silent":
		c.onReject = ruleSilent
	}
	if s.KeepAlive.Max != 0 {
		if s.KeepAlive.Min > s.KeepAlive.Max || s.KeepAlive.Max > 65535*time.Second {
			return nil, errors.New("keepalive is a range like 20s..20m, at most 18h")
		}
		c.keepMin, c.keepMax = uint16(s.KeepAlive.Min/time.Second), uint16(s.KeepAlive.Max/time.Second)
	}
	return c, nil
}
