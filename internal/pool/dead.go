package pool

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// DeadLetter is an event that could not be delivered although its sender may believe so. Immutable.
type DeadLetter struct {
	ID       uint64      // ascending in the order of parking
	Event    *event.Kept // as it arrived, with its metadata
	Reason   string
	Outcome  event.Outcome // of the last attempt
	Error    string        // of the last attempt
	Attempts int
	Arrived  time.Time // in this pool
	Parked   time.Time
}

// deadLetters is the list of them. Guarded by Pool.mu.
type deadLetters struct {
	byID map[uint64]*item
	list list[*item]
	size int64
	last uint64

	removed uint64 // how many were taken out
}

func (d *deadLetters) init() { d.byID = make(map[uint64]*item) }

func (d *deadLetters) add(it *item) {
	d.last++
	it.letterID = d.last
	d.byID[it.letterID] = it
	d.list.push(&it.byAge, it)
	d.size += int64(it.size)
}

func (d *deadLetters) remove(it *item) {
	delete(d.byID, it.letterID)
	it.byAge.remove()
	d.size -= int64(it.size)
	d.removed++
}

func (it *item) letter() DeadLetter {
	return DeadLetter{
		ID: it.letterID, Event: it.ev, Reason: it.reason.String(), Outcome: it.outcome, Error: it.err, Attempts: it.attempts,
		Arrived: time.Unix(0, it.queued), Parked: time.Unix(0, it.ended),
	}
}

// park makes a dead letter; mu is held. At the bound the oldest are dropped and counted.
func (p *Pool) park(it *item) {
	it.state = parked
	it.ended = p.now().UnixNano()
	p.dead.add(it)
	p.counts.parked[it.reason].Add(1)
	p.note(true, "dead_letter/"+it.reason.String(), "event became a dead letter", slog.String("reason", it.reason.String()),
		slog.String("outcome", it.outcome.String()), slog.Int("attempts", it.attempts), slog.String("error", it.err))
	p.boundLetters()
}

// boundLetters drops the oldest beyond the bound; mu is held.
func (p *Pool) boundLetters() {
	for p.dead.list.n > p.spec.DeadLettersMax || p.dead.size > p.spec.DeadLetters {
		old := p.dead.list.front()
		p.dead.remove(old)
		old.state = gone
		p.counts.dropped[reasonDeadLettersFull].Add(1)
	}
}

// DeadLetters lists at most limit dead letters whose ID is greater than after, oldest first.
func (p *Pool) DeadLetters(after uint64, limit int) []DeadLetter {
	p.mu.Lock()
	defer p.mu.Unlock()
	var letters []DeadLetter
	for it := range p.dead.list.all() {
		if len(letters) >= limit {
			break
		}
		if it.letterID > after {
			letters = append(letters, it.letter())
		}
	}
	return letters
}

// lettersAtOnce bounds how many dead letters are looked at or removed in one go: whoever delivers waits for mu.
const lettersAtOnce = 256

// NewestDeadLetters lists at most limit dead letters (up to 256) whose ID is less than before (0: any), newest first.
func (p *Pool) NewestDeadLetters(before uint64, limit int) []DeadLetter {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.dead.list.tail
	if before != 0 {
		at = p.dead.below(before)
	}
	letters := make([]DeadLetter, 0, max(0, min(limit, lettersAtOnce, p.dead.list.n)))
	for ; at != nil && len(letters) < cap(letters); at = at.prev {
		letters = append(letters, at.of.letter())
	}
	return letters
}

// below is the newest whose ID is less than id. The list is in the order of the IDs.
func (d *deadLetters) below(id uint64) *node[*item] {
	if it := d.byID[id]; it != nil {
		return it.byAge.prev
	}
	for i := uint64(1); i < lettersAtOnce && i < id; i++ { // its neighbour is likely to be there
		if it := d.byID[id-i]; it != nil {
			return &it.byAge
		}
	}
	at := d.list.tail
	for at != nil && at.of.letterID >= id {
		at = at.prev
	}
	return at
}

// LettersVersion is another number whenever the dead letters are others.
func (p *Pool) LettersVersion() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead.last<<24 ^ p.dead.removed
}

// DeadLetter returns one of them.
func (p *Pool) DeadLetter(id uint64) (DeadLetter, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	it := p.dead.byID[id]
	if it == nil {
		return DeadLetter{}, false
	}
	return it.letter(), true
}

// Replay puts a dead letter back into the queue, behind the events of its lane, with all its attempts and its age
// anew. The error is ErrUnknown, ErrFull or ErrStopped, and the letter stays what it is.
func (p *Pool) Replay(id uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	it := p.dead.byID[id]
	switch {
	case it == nil:
		return ErrUnknown
	case p.stopping:
		return ErrStopped
	case p.full(it.size):
		return ErrFull
	}
	p.dead.remove(it)
	it.attempts, it.queued = 0, p.now().UnixNano()
	it.ack, it.promised, it.t = Received, true, event.Ticket{}
	p.push(it, p.laneKey(&it.ev.Event))
	p.kick()
	return nil
}

// ReplayAll replays the dead letters, oldest first, until the queue is full; it returns how many.
func (p *Pool) ReplayAll() (n int, err error) {
	for _, id := range p.letterIDs() {
		err := p.Replay(id)
		if errors.Is(err, ErrUnknown) {
			continue // purged or delivered meanwhile
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (p *Pool) letterIDs() []uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]uint64, 0, p.dead.list.n)
	for it := range p.dead.list.all() {
		ids = append(ids, it.letterID)
	}
	return ids
}

// Purge deletes dead letters, all where no id is given, and returns how many.
func (p *Pool) Purge(ids ...uint64) int {
	if len(ids) == 0 {
		ids = p.letterIDs()
	}
	n := 0
	for part := range slices.Chunk(ids, lettersAtOnce) {
		n += p.purge(part)
	}
	return n
}

func (p *Pool) purge(ids []uint64) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if it := p.dead.byID[id]; it != nil {
			p.dead.remove(it)
			it.state = gone
			n++
		}
	}
	return n
}
