package mqtt

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// ClientOptions say how to connect. Immutable once given to Dial.
type ClientOptions struct {
	// URL is mqtt://host:port (also tcp://; port 1883 when absent) or mqtts://host:port (also tls://, ssl://; 8883), or,
	// over WebSocket, ws://host:port/path (80) or wss://host:port/path (443), whose path is /mqtt when absent.
	// User and password in it are used where Username and Password are empty, and never appear in errors.
	URL      string
	Version  wire.Version // V5 when zero
	ClientID string       // empty: the server assigns one (MQTT 3.1: a random one is made)
	Username string
	Password string
	// AuthMethod proves Username and Password by enhanced authentication, so that neither is sent: SCRAM-SHA-256, which also
	// has the server prove that it knows the password. Empty: they are sent in CONNECT. MQTT 5 only.
	AuthMethod string
	// Clean asks for a new session. Without it MQTT 3.1.1 needs a ClientID.
	Clean         bool
	SessionExpiry uint32        // seconds that the server keeps the session for; MQTT 5 only
	KeepAlive     time.Duration // 60 s when zero, off when negative; whole seconds, at most 65,535
	PingTimeout   time.Duration // how long PINGREQ may go unanswered; the keep alive, at most 10 s, when zero
	TLS           *tls.Config   // for mqtts and wss; ServerName is set to the host when empty
	Will          *wire.Will
	// Bridge says in MQTT 3.x that this is a bridge (bit 0x80 of the protocol level, as Mosquitto's bridges do): such a
	// broker then leaves out what came by the same connection and keeps retain flags. MQTT 5 has options for both.
	Bridge bool

	ReceiveMax int // QoS 1 and 2 that the server may have unacknowledged; 1024 when zero; MQTT 5 only
	MaxPacket  int // largest packet that is accepted, in bytes; 16 MiB when zero
	// MaxInflight bounds the own QoS 1 and 2 exchanges, within the server's Receive Maximum. 1000 when zero; 20 in MQTT
	// 3.x, where a server cannot say its bound, and Mosquitto ends connections that go beyond that.
	MaxInflight int
	QueueMax    int // publishes without an answer, of all QoS, before Publish waits; 2000 when zero, at most 60,000

	// Session keeps exchanges under way over connections: see ClientSession. It needs a ClientID. nil: they end with
	// the connection.
	Session *ClientSession

	// OnPublish takes what the server sends, one after the other, on the connection's reading goroutine: until it
	// returns nothing else is read. p is borrowed. ack is to be called exactly once, from any goroutine, now or later:
	// true acknowledges; false refuses in MQTT 5, and in MQTT 3.x, which cannot say that, withholds the
	// acknowledgement, so that the server sends the event again when the session is resumed. Acknowledgements are sent
	// in the order of arrival [MQTT-4.6.0-2], so one that is late holds those behind it. For QoS 0 ack does nothing. With
	// a session that the server has kept, the first events may come before Dial returns.
	// nil acknowledges everything. It must not call Subscribe, Unsubscribe or (when the queue is full) Publish, which
	// wait for the reader.
	OnPublish func(p *wire.Publish, ack func(ok bool))

	// DialContext opens the connection below TLS; a net.Dialer when nil.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	Logger      *slog.Logger // for packets of the server that are ignored, rate-limited
}

const clientDialLimit = 30 * time.Second

// Dial connects: TCP, TLS where the URL says so, CONNECT and its CONNACK. ctx bounds all of that, as 30 seconds do, and
// not the life of the connection. Errors name the server and the reason; a refusal holds a *ReasonError.
func Dial(ctx context.Context, o ClientOptions) (*Client, error) {
	u, secure, err := clientURL(o.URL)
	if err != nil {
		return nil, err
	}
	if u.User != nil {
		o.Username = cmp.Or(o.Username, u.User.Username())
		if p, ok := u.User.Password(); ok {
			o.Password = cmp.Or(o.Password, p)
		}
	}
	address := u.Scheme + "://" + u.Host
	if err := o.defaults(); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	c := o.client(address)
	if err := c.session.attach(c); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	ctx, cancel := context.WithTimeout(ctx, clientDialLimit)
	defer cancel()
	if err := c.connect(ctx, &o, u, secure); err != nil {
		c.session.detach()
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	c.session.resume(c)
	c.live.Store(2)
	c.wg.Go(c.read)
	c.wg.Go(c.write)
	return c, nil
}

func clientURL(s string) (u *url.URL, secure bool, err error) {
	u, err = url.Parse(s)
	if err != nil {
		return nil, false, errors.New("connect: the URL cannot be read") // the error of url.Parse shows the password
	}
	port := "1883"
	switch u.Scheme {
	case "mqtt", "tcp":
	case "mqtts", "tls", "ssl":
		port, secure = "8883", true
	case "ws":
		port = "80"
	case "wss":
		port, secure = "443", true
	default:
		return nil, false, fmt.Errorf("connect to %q: scheme is not mqtt, tcp, mqtts, tls, ssl, ws or wss", u.Redacted())
	}
	if u.Hostname() == "" {
		return nil, false, fmt.Errorf("connect to %q: host missing", u.Redacted())
	}
	u.Host = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	return u, secure, nil
}

// defaults fills in what was left out and refuses what cannot be.
func (o *ClientOptions) defaults() error {
	o.Version = cmp.Or(o.Version, wire.V5)
	o.ReceiveMax = min(cmp.Or(max(o.ReceiveMax, 0), 1024), 0xffff)
	o.MaxPacket = min(cmp.Or(max(o.MaxPacket, 0), 16<<20), wire.MaxPacket)
	inflight := 1000
	if o.Version != wire.V5 {
		inflight = 20
	}
	o.MaxInflight = cmp.Or(max(o.MaxInflight, 0), inflight)
	o.QueueMax = min(cmp.Or(max(o.QueueMax, 0), 2000), 60_000)
	switch {
	case o.KeepAlive == 0:
		o.KeepAlive = time.Minute
	case o.KeepAlive < 0:
		o.KeepAlive = 0
	}
	o.KeepAlive = min((o.KeepAlive + time.Second - 1).Truncate(time.Second), 0xffff*time.Second)
	switch {
	case o.Version < wire.V31 || o.Version > wire.V5:
		return fmt.Errorf("MQTT %v is not spoken here", o.Version)
	case o.Session != nil && o.ClientID == "":
		return errors.New("a session needs a client identifier")
	case o.Version == wire.V311 && o.ClientID == "" && !o.Clean:
		return errors.New("MQTT 3.1.1 without a clean session needs a client identifier")
	case o.Version != wire.V5 && o.Password != "" && o.Username == "":
		return errors.New("MQTT 3.x takes no password without a user name")
	case len(o.ClientID) > 0xffff || len(o.Username) > 0xffff || len(o.Password) > 0xffff:
		return errors.New("client identifier, user name or password over 65,535 bytes")
	}
	if o.Version == wire.V31 && o.ClientID == "" {
		b := make([]byte, 8)
		_, _ = rand.Read(b) // never fails
		o.ClientID = "windrose-" + hex.EncodeToString(b)[:14]
	}
	return o.checkAuth()
}

func (o *ClientOptions) client(address string) *Client {
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		version: o.Version, session: o.Session, own: o.Session == nil, handle: o.OnPublish, log: observe.Limited(logger, nil),
		begun: time.Now(), queueMax: o.QueueMax, recvMax: o.ReceiveMax, maxPacket: uint32(o.MaxPacket), keepAlive: o.KeepAlive,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		calls: make(map[uint16]*clientCall), received1: make(map[uint16]*clientReceipt),
		dec: wire.Decoder{Client: true}, buf: make([]byte, 0, 4096),
	}
	c.server = ServerInfo{Address: address, ClientID: o.ClientID, KeepAlive: o.KeepAlive}
	if c.own {
		c.session = NewClientSession()
	}
	return c
}

// connect brings the connection up to the CONNACK.
func (c *Client) connect(ctx context.Context, o *ClientOptions, u *url.URL, secure bool) (err error) {
	dial := o.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", u.Host)
	if err != nil {
		return clientDialError(err)
	}
	under := conn
	defer func() {
		if err != nil {
			under.Close()
		}
	}()
	if secure {
		cfg := &tls.Config{}
		if o.TLS != nil {
			cfg = o.TLS.Clone()
		}
		cfg.ServerName = cmp.Or(cfg.ServerName, u.Hostname())
		t := tls.Client(conn, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS handshake: %w", err)
		}
		conn = t
	}
	if u.Scheme == "ws" || u.Scheme == "wss" {
		if conn, err = dialWebSocket(ctx, conn, u, o.Version); err != nil {
			return err
		}
	}
	c.conn = conn
	late := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	p := o.packet()
	auth := o.authenticate(p)
	if _, err = conn.Write(wire.AppendConnect(nil, p)); err == nil {
		err = c.connack(o, auth)
	}
	if !late() {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// clientDialError takes the address out of what the net package says: the caller names it.
func clientDialError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return op.Err
	}
	return err
}

// packet is the CONNECT that the options ask for.
func (o *ClientOptions) packet() *wire.Connect {
	p := &wire.Connect{
		Version: o.Version, Bridge: o.Bridge, Clean: o.Clean, KeepAlive: uint16(o.KeepAlive / time.Second), ClientID: []byte(o.ClientID),
		Username: []byte(o.Username), HasUsername: o.Username != "", Password: []byte(o.Password), HasPassword: o.Password != "",
		SessionExpiry: o.SessionExpiry, ReceiveMax: uint16(o.ReceiveMax), MaxPacket: uint32(o.MaxPacket), RequestProblemInfo: true,
	}
	if o.Will != nil {
		p.Will = *o.Will
		p.Will.Present = true
	}
	return p
}

// connack reads the answer to CONNECT; bytes behind it stay in the buffer.
func (c *Client) connack(o *ClientOptions, auth *clientAuth) error {
	for {
		first, body, n, err := wire.Next(c.buf, c.maxPacket)
		if err != nil {
			return err
		}
		if n == 0 {
			if err := c.fill(); errors.Is(err, io.EOF) {
				return errClientGone
			} else if err != nil {
				return err
			}
			continue
		}
		if err := wire.CheckFlags(first); err != nil {
			return err
		}
		switch kind := wire.KindOf(first); {
		case kind == wire.AUTH && c.version == wire.V5:
			answer, err := auth.challenge(&c.dec, body)
			if err != nil {
				return err
			}
			if _, err := c.conn.Write(answer); err != nil {
				return err
			}
			c.use(n)
			continue
		case kind != wire.CONNACK:
			return errClientKind
		}
		var a wire.Connack
		if err := c.dec.Connack(c.version, body, &a); err != nil {
			return err
		}
		if err := auth.verify(&a); err != nil {
			return err
		}
		if err := c.accept(o, &a); err != nil {
			return err
		}
		c.use(n)
		return nil
	}
}

// accept takes over what the server said.
func (c *Client) accept(o *ClientOptions, a *wire.Connack) error {
	if a.Reason != wire.Success {
		return &ReasonError{What: "refused", Reason: a.Reason, Text: string(a.ReasonString), Reference: string(a.ServerReference)}
	}
	if o.Clean && a.SessionPresent {
		return errors.New("server speaks of a session where a new one was asked for") // [MQTT-3.2.2-2]
	}
	i := &c.server
	i.SessionPresent, i.MaxPacket, i.ReceiveMax = a.SessionPresent, a.MaxPacket, cmp.Or(int(a.ReceiveMax), 0xffff)
	i.MaxQoS = 2
	if a.HasMaximumQoS {
		i.MaxQoS = a.MaximumQoS
	}
	i.NoRetain = a.HasRetainAvailable && !a.RetainAvailable
	i.NoWildcards = a.HasWildcardSubAvail && !a.WildcardSubAvail
	i.NoSubIDs = a.HasSubIDAvail && !a.SubIDAvail
	i.NoShared = a.HasSharedSubAvail && !a.SharedSubAvail
	if len(a.AssignedClientID) > 0 {
		i.ClientID = string(a.AssignedClientID)
	}
	if a.HasServerKeepAlive {
		i.KeepAlive = time.Duration(a.ServerKeepAlive) * time.Second // [MQTT-3.2.2-21]
	}
	c.keepAlive = i.KeepAlive
	c.pingLimit = cmp.Or(o.PingTimeout, min(c.keepAlive, 10*time.Second))
	c.window = min(o.MaxInflight, i.ReceiveMax)
	return nil
}
