package event

// Settler receives outcomes. Settle never blocks and may be called from any goroutine. token is what the settler put
// into the ticket; n is how many legs this outcome speaks for.
type Settler interface {
	Settle(token uint64, o Outcome, n int)
}

// Ticket is the right to report one outcome, exactly once. A value: passing it on hands the right over. The zero
// Ticket belongs to events whose sender waits for nothing; settling it does nothing.
type Ticket struct {
	To    Settler
	Token uint64
}

// Settle reports the outcome of one leg.
func (t Ticket) Settle(o Outcome) {
	if t.To != nil {
		t.To.Settle(t.Token, o, 1)
	}
}

// SettleN reports the same outcome for n legs at once.
func (t Ticket) SettleN(o Outcome, n int) {
	if t.To != nil && n > 0 {
		t.To.Settle(t.Token, o, n)
	}
}

// Waits says whether somebody waits for the outcome.
func (t Ticket) Waits() bool { return t.To != nil }

// Target takes events over. Deliver borrows ev (Keep it to hold it longer) and takes over t, which it settles exactly
// once, during the call or later from any goroutine. Deliver never blocks. An event that is Dry is not taken: the target
// settles t with what it would say, and says in the event's trace what it would do.
type Target interface {
	Deliver(ev *Event, t Ticket)
}
