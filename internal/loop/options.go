package loop

import (
	"errors"
	"log/slog"
	"runtime"
	"time"
)

// Options of a Group. The zero value of each field takes the default that stands beside it. Immutable after NewGroup.
type Options struct {
	Loops      int          // how many loops; 0: one per CPU
	Logger     *slog.Logger // nil: slog.DiscardHandler
	Gather     bool         // one thread drives all loops while little happens (ADR 9); Linux only
	ReadBuffer int          // bytes, one buffer per loop; also what one connection may read in a turn; 256 KiB
	MaxOut     int          // bytes of unsent output per connection, plaintext and ciphertext; 4 MiB
	HighWater  int          // pending bytes over which a connection counts as congested; 256 KiB
	LowWater   int          // pending bytes under which it no longer does: Handler.Writable; 64 KiB
	MaxPartial int          // bytes of kept, unconsumed input per connection; 1 MiB; see Conn.SetMaxPartial

	Handshakes       int           // TLS handshakes that compute at the same time; one per CPU
	MaxHandshaking   int           // TLS handshakes in progress at the same time, later ones wait; 1,024
	SilentPerPrefix  int           // TLS handshakes that wait for bytes from one /24 or /48, later ones are refused; 1,024
	HandshakeTimeout time.Duration // from accept (or PROXY header) to the end of the TLS handshake; 10 s
	ProxyTimeout     time.Duration // from accept to the end of the PROXY header; 5 s
}

// What a connection or a group ends with.
var (
	ErrOutputFull       = errors.New("output full: the peer does not read")
	ErrInputFull        = errors.New("input full: too much input that cannot be used")
	ErrStopped          = errors.New("stopped")
	ErrPanic            = errors.New("internal error in the protocol handler")
	ErrHandshakeTimeout = errors.New("tls handshake timed out")
	ErrProxyTimeout     = errors.New("proxy protocol header timed out")
	ErrProxyHeader      = errors.New("malformed proxy protocol header")
)

const (
	flushLimit  = 5 * time.Second // for output queued when Handler.Data returned an error
	lingerLimit = time.Second     // how long bytes of the peer are thrown away after our last byte was sent
)

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.Loops, runtime.NumCPU())
	def(&o.ReadBuffer, 256<<10)
	def(&o.MaxOut, 4<<20)
	def(&o.HighWater, min(256<<10, o.MaxOut/2))
	def(&o.LowWater, min(64<<10, o.HighWater/2))
	def(&o.MaxPartial, 1<<20)
	def(&o.Handshakes, runtime.NumCPU())
	def(&o.MaxHandshaking, 1024)
	def(&o.SilentPerPrefix, 1024)
	if o.HandshakeTimeout <= 0 {
		o.HandshakeTimeout = 10 * time.Second
	}
	if o.ProxyTimeout <= 0 {
		o.ProxyTimeout = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Procs is the GOMAXPROCS that suits a process with that many loops: a loop that waits keeps its processor, so the
// garbage collector, handshakes and other goroutines need some beside the loops. Set it before Group.Run; a group that
// finds no more processors than loops works, but cannot use the cheap way to wait.
func Procs(loops int) int { return loops + max(2, runtime.NumCPU()) }
