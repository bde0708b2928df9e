package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/windrose-edc/windrose/internal/ws"
)

// transport opens a connection to a port of this machine in one of the ways that MQTT travels.
type transport func(ctx context.Context, port string) (net.Conn, error)

func overTCP(ctx context.Context, port string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+port)
}

func overTLS(conf *tls.Config) transport {
	return func(ctx context.Context, port string) (net.Conn, error) {
		return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", "127.0.0.1:"+port)
	}
}

func overWebSocket(below transport) transport {
	return func(ctx context.Context, port string) (net.Conn, error) {
		c, err := below(ctx, port)
		if err != nil {
			return nil, err
		}
		w, err := ws.Client(ctx, c, ws.ClientOptions{Host: "localhost:" + port, Path: "/mqtt", Protocols: []string{"mqtt"}})
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return w, nil
	}
}

// adapter lets a client that speaks TCP talk by another transport: what comes to its port goes on to the port of the node.
func adapter(t *testing.T, to transport, port string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		_ = ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { join(ctx, near, to, port) })
		}
	})
	_, own, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// join passes bytes both ways until one end closes.
func join(ctx context.Context, near net.Conn, to transport, port string) {
	defer near.Close()
	limited, cancel := context.WithTimeout(ctx, patience)
	far, err := to(limited, port)
	cancel()
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = far.SetDeadline(time.Unix(1, 0)); _ = near.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.Close()
	})
	_, _ = io.Copy(near, far)
	_ = near.Close()
	wg.Wait()
	_ = far.Close()
}

// clientTLS is the configuration of a client with the certificates that makeCerts made in dir; own: it shows its own.
func clientTLS(t testing.TB, dir string, own bool) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		t.Fatal("ca.pem holds no certificate")
	}
	if own {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"))
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}
