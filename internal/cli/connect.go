package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/clienttls"
)

// message is an event as the client verbs see it.
type message struct {
	topic       string
	payload     []byte
	qos         byte
	retain      bool
	contentType string
	headers     []header
	expiry      uint32 // seconds; 0: never
}

// header is one MQTT user property.
type header struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// client is what the client verbs need of a protocol's client end. Safe for concurrent use.
type client interface {
	// publish sends m and calls done once: nil when the promise of its QoS holds (QoS 0: when it was written), else why
	// not. The payload may be used again when done was called. An error means that nothing was sent and done is not called.
	publish(ctx context.Context, m *message, done func(error)) error
	// subscribe returns one error per filter, nil for those that were granted.
	subscribe(ctx context.Context, filters []string, qos byte) (refused []error, err error)
	// ended is closed when the connection is over; err then says why.
	ended() <-chan struct{}
	err() error
	close() error
}

// connection is how to reach a server and who to be there. Immutable once dialled.
type connection struct {
	address   string // host:port
	webSocket string // path of the WebSocket, with its query; "": none
	tls       *tls.Config
	version   byte // 3, 4 or 5
	clientID  string
	username  string
	method    string // of enhanced authentication; "": none
	password  []byte
	hasUser   bool
	clean     bool
	expiry    uint32 // of the session, seconds
	keepAlive time.Duration
	onMessage func(*message) // on a goroutine of the connection, in order; the message is valid until it returns; may be nil
}

// dialFunc opens a connection; the protocol's own by default, a fake in tests.
type dialFunc func(ctx context.Context, c *connection) (client, error)

// connectFlags are the flags of every client verb.
type connectFlags struct {
	url, id, user, password, version string
	method                           string
	ca, cert, key                    string
	insecure                         bool
	timeout                          time.Duration
	keepAlive                        time.Duration
}

func addConnectFlags(c *cobra.Command) *connectFlags {
	f := &connectFlags{}
	fl := c.Flags()
	fl.StringVar(&f.url, "url", "mqtt://127.0.0.1:1883", "server: mqtt://[USER:PASSWORD@]HOST[:PORT] or mqtts://..., ws://HOST[:PORT][/PATH] or wss://...")
	fl.StringVarP(&f.id, "id", "i", "", "client id (default: one that nobody else has)")
	fl.StringVarP(&f.user, "username", "u", "", "user name")
	fl.StringVarP(&f.password, "password", "P", "", "password; better in the environment as WINDROSE_PASSWORD")
	fl.StringVar(&f.method, "auth-method", "", "prove the password without sending it: SCRAM-SHA-256 (MQTT 5)")
	fl.StringVarP(&f.version, "protocol", "V", "5", "MQTT version: 3 (3.1), 4 (3.1.1) or 5")
	fl.StringVar(&f.ca, "cafile", "", "certificates of authorities to trust, PEM (default: the system's)")
	fl.StringVar(&f.cert, "cert", "", "client certificate, PEM")
	fl.StringVar(&f.key, "key", "", "key of the client certificate, PEM")
	fl.BoolVar(&f.insecure, "insecure", false, "do not check the server's certificate")
	fl.DurationVar(&f.timeout, "timeout", 35*time.Second, "how long to wait for the connection and for each acknowledgement")
	fl.DurationVar(&f.keepAlive, "keepalive", time.Minute, "keep alive interval; 0: none")
	return f
}

// connection checks the flags.
func (f *connectFlags) connection() (*connection, error) {
	c := &connection{clientID: f.id, clean: true, keepAlive: f.keepAlive}
	switch strings.ToLower(strings.TrimPrefix(strings.ToLower(f.version), "mqttv")) {
	case "3", "3.1", "31":
		c.version = 3
	case "4", "3.1.1", "311":
		c.version = 4
	case "5", "5.0":
		c.version = 5
	default:
		return nil, usagef("-V %s: want 3 (MQTT 3.1), 4 (3.1.1) or 5", f.version)
	}
	if f.keepAlive < 0 || f.keepAlive > 65535*time.Second {
		return nil, usagef("--keepalive %s: want 0 to 65535s", f.keepAlive)
	}
	target := f.url
	if !strings.Contains(target, "://") {
		target = "mqtt://" + target
	}
	u, err := url.Parse(target)
	if err != nil || u.Hostname() == "" {
		return nil, usagef("--url %s: want mqtt://HOST[:PORT], mqtts://..., ws://... or wss://...", redactURL(f.url))
	}
	port := "1883"
	switch u.Scheme {
	case "mqtt", "tcp":
	case "mqtts", "ssl", "tls":
		port = "8883"
		if c.tls, err = f.tls(u.Hostname()); err != nil {
			return nil, err
		}
	case "ws":
		port = "80"
	case "wss":
		port = "443"
		if c.tls, err = f.tls(u.Hostname()); err != nil {
			return nil, err
		}
	default:
		return nil, usagef("--url: unknown scheme %q, want mqtt, mqtts, ws or wss", u.Scheme)
	}
	if u.Scheme == "ws" || u.Scheme == "wss" {
		c.webSocket = "/mqtt" // what most brokers take
		if u.Path != "" {
			c.webSocket = u.RequestURI()
		}
	}
	if u.Port() != "" {
		port = u.Port()
	}
	c.address = net.JoinHostPort(u.Hostname(), port)
	password, hasPassword := f.password, f.password != ""
	if u.User != nil {
		c.username, c.hasUser = u.User.Username(), true
		if p, ok := u.User.Password(); ok && !hasPassword {
			password, hasPassword = p, true
		}
	}
	if f.user != "" {
		c.username, c.hasUser = f.user, true
	}
	if !hasPassword {
		password, hasPassword = os.LookupEnv("WINDROSE_PASSWORD")
	}
	if hasPassword && c.hasUser {
		c.password = []byte(password)
	}
	switch c.method = strings.ToUpper(f.method); {
	case c.method == "":
	case c.method != "SCRAM-SHA-256":
		return nil, usagef("--auth-method %s: want SCRAM-SHA-256", f.method)
	case c.version != 5 || !c.hasUser:
		return nil, usagef("--auth-method needs MQTT 5 (-V 5) and a user name (-u)")
	}
	return c, nil
}

// redactURL hides what stands before the @ of something that could not be parsed.
func redactURL(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "...@" + s[i+1:]
	}
	return s
}

func (f *connectFlags) tls(host string) (*tls.Config, error) {
	if (f.cert == "") != (f.key == "") {
		return nil, usagef("--cert and --key go together")
	}
	c, err := (&clienttls.Spec{CA: f.ca, Cert: f.cert, Key: f.key, ServerName: host, Insecure: f.insecure}).Config()
	switch {
	case errors.Is(err, clienttls.ErrCA):
		return nil, fmt.Errorf("read --cafile: %w", err)
	case errors.Is(err, clienttls.ErrCert):
		return nil, fmt.Errorf("read --cert and --key: %w", err)
	}
	return c, err
}

// connect dials within the timeout.
func (e *env) connect(ctx context.Context, c *connection, timeout time.Duration) (client, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cl, err := e.dial(ctx, c)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %s", timeout)
		}
		return nil, fmt.Errorf("connect to %s: %w", c.address, err)
	}
	return cl, nil
}
