package loop

import (
	"crypto/tls"
	"crypto/x509"
)

type tlsConn struct{ conn *tls.Conn }

func (c *Conn) startTLS()             { c.Close(ErrHandshakeTimeout) }
func (c *Conn) readTLS() (int, error) { return 0, errAgain }
func (c *Conn) flushTLS() error       { return nil }
func (c *Conn) readProxy()            {}
func (t *tlsConn) ready(c *Conn)      {}
func (t *tlsConn) abort() bool        { return false }
func (t *tlsConn) pending() int       { return 0 }
func (t *tlsConn) drop(*buffers)      {}
func (t *tlsConn) peerCertificates() []*x509.Certificate {
	return t.conn.ConnectionState().PeerCertificates
}
