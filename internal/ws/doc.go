// Package ws is WebSocket (RFC 6455) under the protocols that are spoken over it: the opening handshake, the frames, the
// closing handshake. A Server stands between a listener and the protocol's handlers on the same loops, and those do not
// notice: payloads are unmasked where they were read, and one turn's output becomes one frame without being copied. Dial
// is the client's end, a net.Conn.
//
// No extension is negotiated, so compression is not either. Messages are a stream of bytes to the protocol above: their
// limits mean nothing to it (as [MQTT-6.0.0-2] asks), and none is held as a whole.
//
// # Concurrency
//
// A Server is safe for concurrent use; each connection's state is owned by its loop. A client's connection may be read
// by one goroutine and written by any.
package ws
