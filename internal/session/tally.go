package session

// Drop says why an event did not reach a subscriber that it matched.
type Drop uint8

// The reasons, each with a counter of its own.
const (
	DropOffline   Drop = iota // QoS 0, no connection
	DropSlow                  // QoS 0, the connection's output is full
	DropTooLarge              // over the client's maximum packet size
	DropQueueFull             // the outbox is full
	DropExpired               // the event's time passed while it waited
	DropEnded                 // the session ended with events waiting
	DropHeld                  // QoS 0, held for a limit when the connection ended
	DropRetain                // the retained store is full: delivered, not kept
	DropSource                // QoS 0 of a source, too much of it waits
	DropUnacked               // sent, and the session ended before its acknowledgement
	NumDrops
)

var dropNames = [NumDrops]string{"offline", "slow_consumer", "too_large", "queue_full", "expired", "session_ended", "held", "retain_full", "source_full", "unacknowledged"}

// String is the reason's word in metrics.
func (d Drop) String() string { return dropNames[d] }

// Tally counts what a loop's sessions do. Owned by its loop; the host adds it to the node's counters once per turn.
type Tally struct {
	Received    [3]uint64 // by QoS
	Delivered   uint64
	Outcomes    [16]uint64 // answers to publishers, by event.Outcome
	Dropped     [NumDrops]uint64
	Duplicates  uint64 // retries that joined a receipt
	TakenOver   uint64
	Held        uint64 // times that publishing was held
	SubsRefused uint64 // subscriptions above the bound of a session
	IndexFull   uint64 // subscribers turned away because too many changes of the index wait
	HandedOn    uint64 // events of shared subscriptions that went to another member
	Late        uint64 // outcomes of sessions that are gone
	Sessions    int64
	Online      int64
	Subs        int64
	Queued      int64
	QueuedBytes int64
}
