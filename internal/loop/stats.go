package loop

import "sync/atomic"

// Refusal is why a connection was not let in.
type Refusal uint8

// The reasons; String is their word in metrics.
const (
	RefusedMaxConnections Refusal = iota // the listener is full
	RefusedAddress                       // not among the allowed addresses
	RefusedProxyHeader                   // malformed PROXY header
	RefusedProxyTimeout                  // no PROXY header in time
	RefusedHandshakes                    // too many silent TLS handshakes from one prefix
	RefusedHandler                       // Accept returned nil
	NumRefusals                          // how many there are; not a reason
)

var refusalNames = [NumRefusals]string{
	"max_connections", "address", "proxy_header", "proxy_timeout", "handshakes", "handler",
}

func (r Refusal) String() string {
	if r < NumRefusals {
		return refusalNames[r]
	}
	return "unknown"
}

// Stats are totals since the group was made. A copy.
type Stats struct {
	Accepted          int64
	AcceptErrors      int64 // accept pauses: no file descriptors or memory
	Refused           [NumRefusals]int64
	HandshakesOK      int64
	HandshakesFailed  int64
	HandshakesTimeout int64
	HandshakesResumed int64 // among HandshakesOK
	Panics            int64 // connections closed because of one
	FuncPanics        int64 // posted functions, timers and turn functions that ended by one
	BytesIn           int64 // as on the wire
	BytesOut          int64
	Turns             int64
	Wakes             int64 // system calls made to wake a sleeping loop
	OutputFull        int64 // connections closed because the peer did not read
	InputFull         int64
	Open              []int64 // connections per loop
	Driving           int     // loops that run on a thread of their own; the others share that of loop 0
}

// counts are the loop's own counters. Owned by its loop.
type counts struct {
	bytesIn, bytesOut, turns, outputFull, inputFull, handshakesTimeout int64
}

// published is what others may read of a loop. Safe for concurrent use.
type published struct {
	bytesIn, bytesOut, turns, outputFull, inputFull, handshakesTimeout atomic.Int64
	wakes, panics, funcPanics                                          atomic.Int64
	lent                                                               atomic.Bool
}

// publish makes the counters of the turn visible: plain stores, since the loop is the only writer.
func (l *Loop) publish() {
	l.n.turns++
	l.pub.turns.Store(l.n.turns)
	l.pub.bytesIn.Store(l.n.bytesIn)
	l.pub.bytesOut.Store(l.n.bytesOut)
	l.pub.outputFull.Store(l.n.outputFull)
	l.pub.inputFull.Store(l.n.inputFull)
	l.pub.handshakesTimeout.Store(l.n.handshakesTimeout)
}

// Stats returns the totals. Any goroutine.
func (g *Group) Stats() Stats {
	s := Stats{
		Accepted: g.gate.accepted.Load(), AcceptErrors: g.gate.acceptErrors.Load(),
		HandshakesOK: g.gate.ok.Load(), HandshakesFailed: g.gate.failed.Load(), HandshakesResumed: g.gate.resumed.Load(),
	}
	for i := range s.Refused {
		s.Refused[i] = g.gate.refused[i].Load()
	}
	for _, l := range g.loops {
		s.BytesIn += l.pub.bytesIn.Load()
		s.BytesOut += l.pub.bytesOut.Load()
		s.Turns += l.pub.turns.Load()
		s.Wakes += l.pub.wakes.Load()
		s.Panics += l.pub.panics.Load()
		s.FuncPanics += l.pub.funcPanics.Load()
		s.OutputFull += l.pub.outputFull.Load()
		s.InputFull += l.pub.inputFull.Load()
		s.HandshakesTimeout += l.pub.handshakesTimeout.Load()
		s.Open = append(s.Open, l.load.Load())
		if !l.pub.lent.Load() {
			s.Driving++
		}
	}
	return s
}
