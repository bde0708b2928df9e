// Package route decides who takes an event: the subscription index, the routes of the configuration, the walk that hands
// an event to everyone who matched, and the fan-in that makes one outcome of many.
//
// # Concurrency
//
// One Walker belongs to each loop and is its only writer. Walkers reach each other through mailboxes, never through
// shared state; outcomes that come from other goroutines (pools) enter through Walker.Settle, which is safe for
// concurrent use. The Index is read by all loops without locks.
package route

// Sub is one subscription as the index stores it: who takes (high 32 bits), and how (low 32 bits). The high part is the
// taker: the number of its home loop (8 bits) and its place in that loop's table (24 bits), so that a match says at once
// which loop must be told. Immutable.
type Sub uint64

// Options of a subscription, the low 32 bits of a Sub: QoS (2 bits), no local, retain as published, subscription
// identifier (28 bits, MQTT 5 section 3.8.2.1.2; 0: none).
const (
	optNoLocal  = 1 << 2
	optRetainAs = 1 << 3
	optIDShift  = 4
)

// routeLoop is the loop number of takers that are not sessions but routes of the configuration.
const routeLoop = 255

// MaxLoops is how many loops the numbering of takers allows.
const MaxLoops = 254

// MaxTakers is how many sessions one loop can have.
const MaxTakers = 1 << 24

// Taker numbers a session: its home loop and its place there.
func Taker(loop, slot int) uint32 { return uint32(loop)<<24 | uint32(slot)&(MaxTakers-1) }

// MakeSub packs a subscription. id is the subscription identifier, 0 when there is none.
func MakeSub(taker uint32, qos byte, noLocal, retainAsPublished bool, id uint32) Sub {
	o := uint32(qos&3) | id<<optIDShift
	if noLocal {
		o |= optNoLocal
	}
	if retainAsPublished {
		o |= optRetainAs
	}
	return Sub(taker)<<32 | Sub(o)
}

// Taker is who takes.
func (s Sub) Taker() uint32 { return uint32(s >> 32) }

// Loop is the taker's home loop.
func (s Sub) Loop() int { return int(s >> 56) }

// Slot is the taker's place on its home loop.
func (s Sub) Slot() int { return int(s>>32) & (MaxTakers - 1) }

// QoS is the highest QoS that the subscriber wants.
func (s Sub) QoS() byte { return byte(s) & 3 }

// NoLocal says that the subscriber does not want its own events back.
func (s Sub) NoLocal() bool { return s&optNoLocal != 0 }

// RetainAsPublished says that the retain flag is to be passed on as it came.
func (s Sub) RetainAsPublished() bool { return s&optRetainAs != 0 }

// ID is the subscription identifier, 0 when there is none.
func (s Sub) ID() uint32 { return uint32(s) >> optIDShift }
