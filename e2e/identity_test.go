package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestIdentity: the users file, the access list, client certificates, and nobody else.
func TestIdentity(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server; not in -short")
	}
	t.Parallel()
	dir, program := t.TempDir(), filepath.Join(build(t), "windrose")
	if err := makeCerts(dir, "pump-1"); err != nil {
		t.Fatal(err)
	}
	addUser(t, program, filepath.Join(dir, "users.yaml"), "pump", "correct horse")
	n := startNodeIn(t, dir, program, `windrose: v1
node: { name: n1, admin: "127.0.0.1:${ADMIN}", data: data }
tls: { fleet: { cert: server.pem, key: server.key, client_ca: ca.pem, client: require } }
listeners:
  mqtt: { mqtt: { bind: "127.0.0.1:${MQTT}" } }
  mtls: { mqtt: { bind: "127.0.0.1:${MTLS}", tls: fleet } }
  open: { mqtt: { bind: "127.0.0.1:${OPEN}", anonymous: true } }
auth:
  - { x509: { listener: mtls, client: cert.cn } }
  - { users: { file: users.yaml } }
acl:
  - { deny: publish, topic: "site/{client}/locked" }
  - { allow: publish, topic: "site/{client}/#" }
  - { allow: subscribe, topic: "cmd/{client}/#" }
  - { allow: subscribe, topic: "site/#", listener: open }
`)
	code := func(port string, h hello) byte {
		t.Helper()
		c := open(t, n.ports[port], h)
		b := c.expect(connackKind).body[1]
		if b != 0 {
			if before := c.ended(); len(before) != 0 {
				t.Errorf("%+v: packets after a refusal: %v", h, before)
			}
		}
		c.c.Close()
		return b
	}
	for _, x := range []struct {
		what string
		port string
		h    hello
		want byte
	}{
		{"right password", "MQTT", hello{id: "a", user: "pump", pass: "correct horse"}, 0},
		{"right password, 3.1.1", "MQTT", hello{id: "a", v: 4, user: "pump", pass: "correct horse"}, 0},
		{"wrong password", "MQTT", hello{id: "a", user: "pump", pass: "wrong"}, 0x86},
		{"wrong password, 3.1.1", "MQTT", hello{id: "a", v: 4, user: "pump", pass: "wrong"}, 4},
		{"unknown user", "MQTT", hello{id: "a", user: "nobody", pass: "correct horse"}, 0x86},
		{"unknown user, 3.1.1", "MQTT", hello{id: "a", v: 4, user: "nobody", pass: "correct horse"}, 4},
		{"no password", "MQTT", hello{id: "a", user: "pump"}, 0x86},
		{"anonymous", "MQTT", hello{id: "a"}, 0x87},
		{"anonymous, 3.1.1", "MQTT", hello{id: "a", v: 4}, 5},
		{"anonymous where the listener says so", "OPEN", hello{id: "a"}, 0},
		{"wrong password where anonymous is admitted", "OPEN", hello{id: "a", user: "pump", pass: "wrong"}, 0x86},
	} {
		if got := code(x.port, x.h); got != x.want {
			t.Errorf("%s: CONNACK %#x, want %#x", x.what, got, x.want)
		}
	}

	sub := client(t, n.ports["OPEN"], hello{id: "watch"})
	if got := sub.subscribe("site/#", 1); got != 1 {
		t.Fatalf("SUBACK %#x", got)
	}
	arrives := func(payload string) {
		t.Helper()
		p := sub.expect(publishKind)
		_, got, _, id := sub.message(p)
		if string(got) != payload {
			t.Errorf("%q arrives, want %q", got, payload)
		}
		if id != 0 {
			sub.must(sub.send(appendPuback(nil, id)))
		}
	}
	try := func(c *raw, topic, payload string, want byte) {
		t.Helper()
		c.publish(topic, []byte(payload), 1)
		if got, _ := c.puback(1); got != want {
			t.Errorf("publish to %s: %#x, want %#x", topic, got, want)
		}
	}
	for v := byte(4); v <= 5; v++ {
		c := client(t, n.mqtt(), hello{id: "dev", v: v, user: "pump", pass: "correct horse"})
		denied, none := byte(0x87), byte(0x87)
		if v == 4 {
			denied, none = 0, 0x80 // 3.1.1 cannot say more; on_reject is ack
		}
		try(c, "site/dev/t", "allowed", 0)
		arrives("allowed")
		try(c, "site/dev/locked", "denied", denied)
		try(c, "site/other/t", "denied", denied)
		try(c, "other", "denied", denied)
		c.publish("site/other/t", []byte("denied"), 0) // QoS 0: nothing is said
		c.ping()
		for filter, want := range map[string]byte{"cmd/dev/#": 1, "cmd/dev": 1, "cmd/#": none, "cmd/other/#": none, "#": none, "+/dev/#": none} {
			if got := c.subscribe(filter, 1); got != want {
				t.Errorf("MQTT %d: subscribe to %s: %#x, want %#x", v, filter, got, want)
			}
		}
		c.disconnect()
	}
	sub.silent(settle) // nothing of what was denied
	n.await(8, "windrose_policy_verdict_events_total", `policy="acl"`, `kind="reject"`)

	// Client certificates: the common name is the client.
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("ca.pem holds no certificate")
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}}
	for _, h := range []hello{{id: "pump-1", tls: conf}, {tls: conf}, {v: 4, id: "pump-1", tls: conf}} {
		c := client(t, n.ports["MTLS"], h)
		try(c, "site/pump-1/t", "by certificate", 0)
		arrives("by certificate")
		if c.v == 5 {
			try(c, "site/pump-2/t", "denied", 0x87)
		}
		c.disconnect()
	}
	if got := code("MTLS", hello{id: "pump-2", tls: conf}); got != 0x85 {
		t.Errorf("another client id than the certificate's: CONNACK %#x, want 0x85", got)
	}
	if got := code("MTLS", hello{id: "pump-2", v: 4, tls: conf}); got != 2 {
		t.Errorf("another client id than the certificate's, 3.1.1: CONNACK %#x, want 2", got)
	}
	stranger := t.TempDir()
	if err := makeCerts(stranger, "pump-1"); err != nil {
		t.Fatal(err)
	}
	foreign, err := tls.LoadX509KeyPair(filepath.Join(stranger, "client.pem"), filepath.Join(stranger, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	for what, certs := range map[string][]tls.Certificate{"no certificate": nil, "a certificate of another authority": {foreign}} {
		d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "localhost", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &certs[0], nil
		}}}
		nc, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:"+n.ports["MTLS"])
		if err == nil { // with TLS 1.3 the client hears of it when it reads
			_, _ = nc.Write(appendConnect(nil, 5, hello{id: "pump-1"}))
			_, err = nc.Read(make([]byte, 1))
			nc.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
			t.Errorf("%s: %v, want an alert", what, err)
		}
		t.Logf("%s: %v", what, err)
	}
	n.await(2, "windrose_loop_tls_handshakes_total", `outcome="failed"`)
}
