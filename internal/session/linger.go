package session

import "time"

// A client that connects again and again leaves events behind whose outcome is open: they take space where outcomes are
// awaited, until their deadline. A session that goes on has receipts for them, which retries join; one that ended with its
// connection left them to a session that knows nothing of them. Either way what a client left counts against it: no more
// than orphanMax times what it may have without an answer walks at any time, and what it publishes beyond that is held.

// lingerLook is how long publishing is held before it is looked whether outcomes have come.
const lingerLook = 100 * time.Millisecond

// ghost is a session that ended while outcomes of its events were open. Owned by its host.
type ghost struct {
	client string
	open   int
}

// linger remembers what a session leaves open.
func (h *Host) linger(s *Session) {
	if s.walking == 0 {
		return
	}
	if h.ghosts == nil {
		h.ghosts, h.lingers = make(map[uint32]*ghost), make(map[string]int)
	}
	h.ghosts[uint32(s.token(0)>>32)] = &ghost{s.ID, s.walking}
	h.lingers[s.ID] += s.walking
}

// lingered takes an outcome of a session that ended.
func (h *Host) lingered(token uint64) {
	g := h.ghosts[uint32(token>>32)]
	if g == nil {
		return
	}
	if g.open--; g.open == 0 {
		delete(h.ghosts, uint32(token>>32))
	}
	if h.lingers[g.client]--; h.lingers[g.client] == 0 {
		delete(h.lingers, g.client)
	}
	if len(h.ghosts) == 0 {
		h.ghosts, h.lingers = nil, nil // what a storm needed is not kept
	}
}
