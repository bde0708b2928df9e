package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// mqttClient is the product's own client end as the verbs see it. Immutable; safe for concurrent use.
type mqttClient struct {
	c *mqtt.Client
}

// dialMQTT opens a connection by MQTT.
func dialMQTT(ctx context.Context, c *connection) (client, error) {
	o := mqtt.ClientOptions{
		URL: "mqtt://" + c.address, Version: wire.Version(c.version), ClientID: c.clientID, Username: c.username, AuthMethod: c.method, Password: string(c.password),
		Clean: c.clean, SessionExpiry: c.expiry, KeepAlive: c.keepAlive, TLS: c.tls, MaxPacket: wire.MaxPacket, QueueMax: 60_000,
	}
	switch {
	case c.webSocket != "" && c.tls != nil:
		o.URL = "wss://" + c.address + c.webSocket
	case c.webSocket != "":
		o.URL = "ws://" + c.address + c.webSocket
	case c.tls != nil:
		o.URL = "mqtts://" + c.address
	}
	if c.keepAlive == 0 {
		o.KeepAlive = -1 // 0 stands for the default there
	}
	if c.onMessage != nil {
		o.OnPublish = func(p *wire.Publish, ack func(bool)) {
			m := fromWire(p)
			c.onMessage(&m)
			ack(true)
		}
	}
	cl, err := mqtt.Dial(ctx, o)
	if err != nil {
		return nil, inner(err)
	}
	return &mqttClient{cl}, nil
}

func (m *mqttClient) publish(_ context.Context, msg *message, done func(error)) error {
	ev := event.Event{Topic: []byte(msg.topic), Payload: msg.payload}
	ok := true
	if msg.contentType != "" {
		ev.Meta, ok = event.AppendMeta(ev.Meta, event.MetaContentType, msg.contentType)
	}
	for _, h := range msg.headers {
		var fits bool
		ev.Meta, fits = event.AppendHeader(ev.Meta, h.Key, h.Value)
		ok = ok && fits
	}
	if !ok {
		return errors.New("content type or header over 65,535 bytes")
	}
	if msg.expiry > 0 {
		ev.Expires = time.Now().Add(time.Duration(msg.expiry) * time.Second).UnixNano()
	}
	m.c.Publish(&event.Kept{Event: ev}, msg.qos, msg.retain, nil, func(_ wire.Reason, err error) { done(inner(err)) })
	return nil
}

func (m *mqttClient) subscribe(ctx context.Context, filters []string, qos byte) ([]error, error) {
	ask := make([]wire.Filter, len(filters))
	for i, f := range filters {
		ask[i] = wire.Filter{Filter: f, SubOptions: wire.SubOptions{QoS: qos}}
	}
	codes, err := m.c.Subscribe(ctx, ask...)
	if err != nil {
		return nil, inner(err)
	}
	refused := make([]error, len(filters))
	for i, code := range codes {
		if code.Failed() {
			refused[i] = fmt.Errorf("refused: %v", code)
		}
	}
	return refused, nil
}

func (m *mqttClient) ended() <-chan struct{} { return m.c.Done() }

func (m *mqttClient) err() error { return m.c.Err() }

func (m *mqttClient) close() error {
	m.c.Close()
	if err := m.c.Wait(); !errors.Is(err, mqtt.ErrClosed) {
		return err
	}
	return nil
}

// inner takes off what the client says about whom it talked to: the verbs say that themselves.
func inner(err error) error {
	if next := errors.Unwrap(err); next != nil {
		return next
	}
	return err
}

func fromWire(p *wire.Publish) message {
	m := message{topic: string(p.Topic), payload: p.Payload, qos: p.QoS, retain: p.Retain, expiry: p.Expiry}
	for meta := p.Meta; ; {
		it, rest, ok := event.NextMeta(meta)
		if !ok {
			return m
		}
		switch it.ID {
		case event.MetaContentType:
			m.contentType = string(it.Value)
		case event.MetaHeader:
			m.headers = append(m.headers, header{string(it.Key), string(it.Value)})
		}
		meta = rest
	}
}
