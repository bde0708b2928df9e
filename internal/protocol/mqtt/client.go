package mqtt

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// Client is one connection to an MQTT server. It does not reconnect: whoever wants that dials again, with the same
// ClientSession if exchanges under way are to go on. Safe for concurrent use: conn and what Dial learned are immutable,
// the rest is guarded by the mutex of its session, but for what is marked as the reader's or the writer's.
//
// It has two goroutines. The reader decodes what the server sends and calls ClientOptions.OnPublish and the done
// functions of what was acknowledged; the writer gathers what there is to send into one write, keeps the connection
// alive and calls the done functions of QoS 0. Both end soon after the connection does, then Done is closed.
type Client struct {
	conn    net.Conn
	version wire.Version
	server  ServerInfo
	session *ClientSession
	own     bool // nobody else knows the session: it ends with the connection
	handle  func(p *wire.Publish, ack func(ok bool))
	log     *observe.LimitedLogger
	begun   time.Time

	window    int // QoS 1 and 2 exchanges that may be open
	queueMax  int
	recvMax   int
	maxPacket uint32 // that is accepted
	keepAlive time.Duration
	pingLimit time.Duration

	wake     chan struct{} // tells the writer that there is something to do; holds one
	stop     chan struct{} // closed when the connection is over
	done     chan struct{} // closed when the goroutines have ended, too
	wg       sync.WaitGroup
	live     atomic.Int32 // goroutines that have not ended
	lastRecv atomic.Int64 // when the last bytes came, since begun
	busy     atomic.Bool  // the reader is in the caller's code and does not read

	// Guarded by session.mu.
	err       error
	closing   bool        // no new publishes; the writer sends what it has and DISCONNECT
	failing   bool        // the server broke the protocol: nothing but DISCONNECT is sent
	ended     bool        // the connection is over
	reason    wire.Reason // for DISCONNECT
	ctrl      []byte      // acknowledgements and the like, which no window holds
	queue0    []*clientFlight
	unsent    *clientFlight // first exchange that was not yet begun on this connection
	open      int           // exchanges begun on this connection
	calls     map[uint16]*clientCall
	received1 map[uint16]*clientReceipt
	order1    []*clientReceipt
	receiving int // QoS 1 and 2 that the server waits for

	// The reader's.
	dec wire.Decoder
	buf []byte // what was read and not yet used is buf[:have]
	// The writer's.
	batch    []*clientFlight // QoS 0 in the write under way
	failed   []clientEnd     // what could not be sent
	lastSend time.Duration
	pingSent time.Duration // 0: no PINGREQ waits for an answer
	due      time.Duration // when keepUp is to look again
}

// ServerInfo is what the server said when it accepted the connection. Immutable.
type ServerInfo struct {
	Address        string // as dialled, without credentials
	ClientID       string // the server's, where it assigned one
	SessionPresent bool
	ReceiveMax     int
	MaxPacket      uint32 // bytes; 0: no bound
	MaxQoS         byte
	NoRetain       bool
	NoWildcards    bool
	NoSubIDs       bool
	NoShared       bool
	KeepAlive      time.Duration
}

// clientEnd is a done function that is to be called without the lock.
type clientEnd struct {
	done   func(wire.Reason, error)
	reason wire.Reason
	err    error
}

// Bounds of a Client.
const (
	clientCtrlMax   = 256 << 10        // bytes of acknowledgements at which the reader waits for the writer
	clientBatch     = 64 << 10         // bytes from which on a write is not made larger
	clientKeepBuf   = 64 << 10         // a read buffer is not kept larger than that
	clientLinger    = 2 * time.Second  // how long the server has to take the last word, and then to close
	clientWriteIdle = 60 * time.Second // how long a write may take where there is no keep alive
)

// ErrClosed is the end of a connection that its own side closed.
var ErrClosed = errors.New("connection closed")

var (
	errClientPing   = errors.New("server does not answer PINGREQ")
	errClientGone   = errors.New("server closed the connection")
	errClientWindow = &wire.Error{Code: wire.ReceiveMaximumExceeded, Text: "server sent more than the receive maximum"}
	errClientAlias  = &wire.Error{Code: wire.TopicAliasInvalid, Text: "server used a topic alias that was not offered"}
	errClientAck    = &wire.Error{Code: wire.ProtocolError, Text: "acknowledgement of another kind than the exchange needs"}
	errClientCodes  = &wire.Error{Code: wire.ProtocolError, Text: "acknowledgement with a wrong number of codes"}
	errClientKind   = &wire.Error{Code: wire.ProtocolError, Text: "packet type not expected from a server"}
)

// ReasonError is a refusal in the server's own words. Immutable.
type ReasonError struct {
	What      string // what was refused or ended
	Reason    wire.Reason
	Text      string // the server's reason string
	Reference string // the other server that it points to
}

// Error is one line without credentials.
func (e *ReasonError) Error() string {
	s := e.What + ": " + e.Reason.String()
	if e.Text != "" {
		s += fmt.Sprintf(" (%q)", e.Text)
	}
	if e.Reference != "" {
		s += fmt.Sprintf(", use %q", e.Reference)
	}
	return s
}

// Server returns what the server said when it accepted the connection.
func (c *Client) Server() ServerInfo { return c.server }

// Window is how many publishes may be in flight without Publish ever waiting: the server's Receive Maximum within the
// bounds of the options.
func (c *Client) Window() int { return min(c.window, c.queueMax) }

// Done is closed when the connection is over and its last callback has returned.
func (c *Client) Done() <-chan struct{} { return c.done }

// Wait waits for Done and returns Err.
func (c *Client) Wait() error {
	c.wg.Wait()
	return c.Err()
}

// Err says why the connection is over: ErrClosed after Close and Disconnect, nil while it lives.
func (c *Client) Err() error {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	if !c.ended {
		return nil
	}
	return c.err
}

// Close is Disconnect with a normal reason. It does not wait: Done tells.
func (c *Client) Close() { c.Disconnect(wire.Success) }

// Disconnect sends the QoS 0 events that wait and a DISCONNECT, and closes the connection. Exchanges under way stay in
// the ClientSession that Dial was given; without one their done functions are told ErrClosed. It does not wait: Done
// tells. Calls after the end do nothing.
func (c *Client) Disconnect(reason wire.Reason) {
	c.session.mu.Lock()
	if !c.closing && !c.ended {
		c.closing, c.reason, c.err = true, reason, ErrClosed
		c.session.room.Broadcast()
		_ = c.conn.SetWriteDeadline(time.Now().Add(clientLinger)) // for the write that may be under way
	}
	c.session.mu.Unlock()
	c.nudge()
}

// Abort closes the connection without a word: the server publishes the will.
func (c *Client) Abort() { c.end(ErrClosed) }

// end is the end of the connection, for the reason err unless one is known already.
func (c *Client) end(err error) {
	c.session.mu.Lock()
	if !c.ended {
		c.ended, c.closing = true, true
		if c.err == nil {
			c.err = err
		}
		close(c.stop)
		c.session.room.Broadcast()
	}
	c.session.mu.Unlock()
	c.conn.Close()
	c.nudge()
}

// refuse ends the connection because the server broke the protocol; the writer tells it so.
func (c *Client) refuse(err *wire.Error) {
	c.session.mu.Lock()
	if !c.ended && !c.failing {
		c.closing, c.failing, c.reason = true, true, err.Code
		if c.err == nil {
			c.err = fmt.Errorf("server broke the protocol: %w", err)
		}
		c.session.room.Broadcast()
		_ = c.conn.SetWriteDeadline(time.Now().Add(clientLinger))
	}
	c.session.mu.Unlock()
	c.nudge()
}

func (c *Client) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// leave is the end of a goroutine; the last one answers everything that nobody will answer any more.
func (c *Client) leave() {
	if c.live.Add(-1) != 0 {
		return
	}
	s := c.session
	s.mu.Lock()
	s.cur = nil
	err := fmt.Errorf("publish to %s: %w", c.server.Address, c.err)
	var ends []clientEnd
	for _, f := range c.queue0 {
		ends = append(ends, clientEnd{f.done, wire.ServerUnavailable, err})
	}
	c.queue0 = nil
	if c.own {
		ends = s.takeAll(ends, err)
	}
	s.mu.Unlock()
	callAll(ends)
	close(c.done)
}

func callAll(ends []clientEnd) {
	for _, e := range ends {
		if e.done != nil {
			e.done(e.reason, e.err)
		}
	}
}

func (c *Client) clock() time.Duration { return time.Since(c.begun) }

func (c *Client) ignored(what string, k wire.Kind) {
	c.log.Info("mqtt_client/"+what, "mqtt packet ignored", slog.String("server", c.server.Address),
		slog.String("packet", k.String()), slog.String("why", what))
}
