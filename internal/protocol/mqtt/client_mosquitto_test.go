package mqtt

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

const mosquittoPath = "/usr/sbin/mosquitto"

// freePort returns a port on loopback that nobody listens on. It is below those that the kernel gives to listeners on port
// 0 and to outgoing connections: between this and the broker's bind, or while a broker is stopped, no other test takes it.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15000+mathrand.IntN(15000)))
		if err == nil {
			defer l.Close()
			return l.Addr().(*net.TCPAddr).Port
		}
	}
	t.Fatal("no free port")
	return 0
}

// startMosquitto starts the broker and waits until it listens on all ports. It returns an error with the broker's words
// when it ends before.
func startMosquitto(conf string, ports ...int) (stop func(os.Signal), said *bytes.Buffer, err error) {
	cmd := exec.Command(mosquittoPath, "-c", conf)
	said = new(bytes.Buffer)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = cmd.Wait()
		close(ended)
	})
	stop = func(s os.Signal) {
		_ = cmd.Process.Signal(s)
		wg.Wait()
	}
	deadline := time.After(10 * time.Second)
	for _, port := range ports {
		for {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				c.Close()
				break
			}
			select {
			case <-ended:
				return nil, nil, fmt.Errorf("mosquitto ended: %s", said)
			case <-deadline:
				stop(os.Kill)
				return nil, nil, fmt.Errorf("mosquitto does not listen on port %d: %s", port, said)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return stop, said, nil
}

// keepsOrder is the setting with which Mosquitto keeps the order of events. With a bound, a new event may go to a
// subscriber at once when its window has just opened, before older ones that wait for it (2.0.11).
const keepsOrder = "max_inflight_messages 0\n"

// mosquitto starts Debian's broker with plain and TLS listeners and returns their URLs and the certificates to trust.
func mosquitto(t *testing.T, settings ...string) (plain, secure string, roots *x509.CertPool) {
	t.Helper()
	if _, err := os.Stat(mosquittoPath); err != nil {
		t.Skip("SKIPPED, mosquitto is not installed: ", err)
	}
	dir := t.TempDir()
	cert, key, roots := selfSigned(t)
	p1, p2 := freePort(t), freePort(t)
	for p2 == p1 {
		p2 = freePort(t)
	}
	conf := fmt.Sprintf("listener %d 127.0.0.1\nlistener %d 127.0.0.1\ncertfile %s/cert.pem\nkeyfile %s/key.pem\n", p1, p2, dir, dir) +
		"allow_anonymous true\nuser root\nmax_queued_messages 0\n" + strings.Join(settings, "")
	for name, data := range map[string][]byte{"cert.pem": cert, "key.pem": key, "m.conf": []byte(conf)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stop, said, err := startMosquitto(filepath.Join(dir, "m.conf"), p1, p2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop(os.Kill)
		if t.Failed() {
			t.Logf("mosquitto: %s", said)
		}
	})
	return fmt.Sprintf("mqtt://127.0.0.1:%d", p1), fmt.Sprintf("mqtts://127.0.0.1:%d", p2), roots
}

func selfSigned(t *testing.T) (cert, key []byte, roots *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb}), roots
}

// arrivals is what arrived, by payload. Safe for concurrent use: guarded by mu.
type arrivals struct {
	mu    sync.Mutex
	n     map[string]int
	order []string
	wake  chan struct{}
}

func newArrivals() *arrivals { return &arrivals{n: map[string]int{}, wake: make(chan struct{}, 1)} }

func (a *arrivals) add(p *wire.Publish) {
	a.mu.Lock()
	s := fmt.Sprintf("%d:%s", p.QoS, p.Payload)
	a.n[s]++
	a.order = append(a.order, s)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// wait waits until n different payloads have arrived.
func (a *arrivals) wait(t *testing.T, n int) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		a.mu.Lock()
		got := len(a.n)
		a.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-a.wake:
		case <-deadline:
			t.Fatalf("%d of %d events arrived", got, n)
		}
	}
}

// The client and a broker that others wrote: all versions, all qualities of service, both directions, plain and TLS.
func TestClientMosquitto(t *testing.T) {
	plain, secure, roots := mosquitto(t, keepsOrder)
	for _, v := range []wire.Version{wire.V31, wire.V311, wire.V5} {
		for _, url := range []string{plain, secure} {
			t.Run(v.String()+" "+url[:5], func(t *testing.T) {
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				a := newArrivals()
				var acks sync.WaitGroup
				o := ClientOptions{URL: url, Version: v, Clean: true, ClientID: "c" + v.String(), TLS: &tls.Config{RootCAs: roots}, OnPublish: func(p *wire.Publish, ack func(bool)) {
					a.add(p)
					acks.Go(func() { ack(true) }) // from another goroutine, in any order
				}}
				c, err := Dial(ctx, o)
				if err != nil {
					t.Fatal(err)
				}
				topic := "t/" + v.String() + "/é x"
				codes, err := c.Subscribe(ctx, wire.Filter{Filter: "t/" + v.String() + "/#", SubOptions: wire.SubOptions{QoS: 2}})
				if err != nil || len(codes) != 1 || codes[0] != wire.GrantedQoS2 {
					t.Fatalf("subscribe: %v, %v", codes, err)
				}
				const each = 200
				var waiting sync.WaitGroup
				for i := range 3 * each {
					waiting.Add(1)
					c.Publish(testEvent(topic, fmt.Sprint(i)), byte(i%3), false, nil, func(_ wire.Reason, err error) {
						if err != nil {
							t.Errorf("publish %d: %v", i, err)
						}
						waiting.Done()
					})
				}
				waiting.Wait()
				a.wait(t, 3*each)
				last := map[byte]int{}
				for _, s := range a.order {
					var i int
					if _, err := fmt.Sscanf(s[2:], "%d", &i); err != nil || a.n[s] != 1 || int(s[0]-'0') != i%3 {
						t.Errorf("arrived %d times: %s", a.n[s], s)
					}
					if i < last[s[0]] {
						t.Errorf("%s arrived after %d", s, last[s[0]])
					}
					last[s[0]] = i
				}
				codes, err = c.Unsubscribe(ctx, "t/"+v.String()+"/#")
				if err != nil || len(codes) != 1 || codes[0] != wire.Success {
					t.Errorf("unsubscribe: %v, %v", codes, err)
				}
				c.Close()
				if err := c.Wait(); !errors.Is(err, ErrClosed) {
					t.Errorf("end: %v", err)
				}
				acks.Wait()
			})
		}
	}
	t.Run("unknown authority", func(t *testing.T) {
		_, err := Dial(t.Context(), ClientOptions{URL: secure, Clean: true})
		if err == nil || !strings.Contains(err.Error(), "TLS handshake") {
			t.Errorf("Dial: %v", err)
		}
	})
}

// Abort leaves without a word: the broker publishes the will. Close takes it back.
func TestClientMosquittoWill(t *testing.T) {
	url, _, _ := mosquitto(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a := newArrivals()
	c, err := Dial(t.Context(), ClientOptions{URL: url, Clean: true, OnPublish: func(p *wire.Publish, ack func(bool)) {
		a.add(p)
		ack(true)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Subscribe(t.Context(), wire.Filter{Filter: "w", SubOptions: wire.SubOptions{QoS: 1}}); err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{"closed", "aborted"} {
		w, err := Dial(t.Context(), ClientOptions{URL: url, Clean: true, Will: &wire.Will{Topic: []byte("w"), Payload: []byte(payload), QoS: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if payload == "closed" {
			w.Close()
		} else {
			w.Abort()
		}
		<-w.Done()
	}
	a.wait(t, 1)
	if len(a.n) != 1 || a.n["1:aborted"] != 1 {
		t.Errorf("wills: %v", a.n)
	}
	c.Close()
	<-c.Done()
}

// A bridge in MQTT 3.1.1 is not sent what it published itself, and retain flags stay.
func TestClientMosquittoBridge(t *testing.T) {
	url, _, _ := mosquitto(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a := newArrivals()
	b, err := Dial(t.Context(), ClientOptions{URL: url, Version: wire.V311, ClientID: "b", Clean: true, Bridge: true, OnPublish: func(p *wire.Publish, ack func(bool)) {
		if p.Retain {
			a.add(p)
		}
		ack(true)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Subscribe(t.Context(), wire.Filter{Filter: "b/#", SubOptions: wire.SubOptions{QoS: 1}}); err != nil {
		t.Fatal(err)
	}
	other, err := Dial(t.Context(), ClientOptions{URL: url, Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	b.Publish(testEvent("b/own", "own"), 1, true, nil, nil)
	other.Publish(testEvent("b/other", "other"), 1, true, nil, nil)
	a.wait(t, 1)
	for _, c := range []*Client{b, other} {
		c.Close()
		<-c.Done()
	}
	if len(a.n) != 1 || a.n["1:other"] != 1 {
		t.Errorf("arrived %v", a.n)
	}
}

// Another connection with the same identifier ends the first. Debian's 2.0.11 closes it without a word, newer ones say why.
func TestClientMosquittoTakeover(t *testing.T) {
	url, _, _ := mosquitto(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	o := ClientOptions{URL: url, Clean: true, ClientID: "same"}
	first, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var r *ReasonError
	if err := first.Wait(); !errors.Is(err, errClientGone) && (!errors.As(err, &r) || r.Reason != wire.SessionTakenOver) {
		t.Errorf("end of the first: %v", err)
	}
	second.Close()
	<-second.Done()
}
