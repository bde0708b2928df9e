package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/pool"
	"github.com/windrose-edc/windrose/internal/session"
)

// lettersPerStep is how many dead letters of each pool are read at once.
const lettersPerStep = 64

// letterSource is a list of dead letters as the API names it. Immutable.
type letterSource struct {
	name   string
	newest func(before uint64, limit int) []admin.DeadLetter
}

// letterSources are all lists, or the one of that name.
func (s *status) letterSources(name string) (out []letterSource) {
	for _, p := range s.now().pools {
		if name == "" || name == p.Name() {
			out = append(out, letterSource{p.Name(), func(before uint64, limit int) (rows []admin.DeadLetter) {
				for _, d := range p.NewestDeadLetters(before, limit) {
					rows = append(rows, poolLetter(p.Name(), &d))
				}
				return rows
			}})
		}
	}
	if name == "" || name == admin.SessionLetters {
		out = append(out, letterSource{admin.SessionLetters, func(before uint64, limit int) (rows []admin.DeadLetter) {
			for _, d := range s.now().dead.newest(before, limit) {
				rows = append(rows, sessionLetter(&d))
			}
			return rows
		}})
	}
	return out
}

func poolLetter(pool string, d *pool.DeadLetter) admin.DeadLetter {
	return admin.DeadLetter{ID: d.ID, Time: d.Parked.UTC(), Pool: pool, Topic: string(d.Event.Topic), Reason: d.Reason, Text: d.Error,
		Attempts: d.Attempts, Bytes: len(d.Event.Payload)}
}

func sessionLetter(d *deadLetter) admin.DeadLetter {
	return admin.DeadLetter{ID: d.id, Time: d.at.UTC(), Pool: admin.SessionLetters, Client: d.client, Topic: string(d.ev.Topic), Reason: d.reason, Bytes: len(d.ev.Payload)}
}

// DeadLetters implements admin.Node: the lists of all pools become one by time. The place names the last letter given of
// each pool.
func (s *status) DeadLetters(_ context.Context, name, from string, yield func(*admin.DeadLetter) bool) (string, error) {
	given, err := letterPlace(from)
	if err != nil {
		return "", err
	}
	type head struct {
		letterSource
		rows []admin.DeadLetter
		full bool // there may be more behind rows
	}
	var heads []head
	for _, src := range s.letterSources(name) {
		if given[src.name] == 1 { // the oldest there can be was given
			continue
		}
		rows := src.newest(given[src.name], lettersPerStep)
		heads = append(heads, head{src, rows, len(rows) == lettersPerStep})
	}
	for {
		newest := -1
		for i := range heads {
			h := &heads[i]
			if len(h.rows) == 0 {
				if h.full { // its next one may be the newest of all
					return letterPlaceText(given), nil
				}
				continue
			}
			if newest < 0 || h.rows[0].Time.After(heads[newest].rows[0].Time) {
				newest = i
			}
		}
		if newest < 0 {
			return "", nil
		}
		h := &heads[newest]
		row := h.rows[0]
		h.rows = h.rows[1:]
		given[h.name] = row.ID
		if !yield(&row) {
			if !slices.ContainsFunc(heads, func(h head) bool { return len(h.rows) > 0 || h.full }) {
				return "", nil
			}
			return letterPlaceText(given), nil
		}
	}
}

// letterPlace reads a place: for each pool the number of the last letter that was given.
func letterPlace(from string) (map[string]uint64, error) {
	given := map[string]uint64{}
	if from == "" {
		return given, nil
	}
	for part := range strings.SplitSeq(from, " ") {
		name, number, ok := strings.Cut(part, "=")
		id, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil || id == 0 {
			return nil, admin.ErrCursor
		}
		given[name] = id
	}
	return given, nil
}

func letterPlaceText(given map[string]uint64) string {
	var parts []string
	for name, id := range given {
		parts = append(parts, name+"="+strconv.FormatUint(id, 10))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// DeadLetter implements admin.Node.
func (s *status) DeadLetter(name string, id uint64) (*admin.DeadLetterDetail, error) {
	if name == admin.SessionLetters {
		d, ok := s.now().dead.find(id)
		if !ok {
			return nil, admin.ErrNotFound
		}
		return &admin.DeadLetterDetail{DeadLetter: sessionLetter(&d), Event: eventDetail(&d.ev.Event)}, nil
	}
	p := s.now().pool(name)
	if p == nil {
		return nil, admin.ErrNotFound
	}
	d, ok := p.DeadLetter(id)
	if !ok {
		return nil, admin.ErrNotFound
	}
	return &admin.DeadLetterDetail{DeadLetter: poolLetter(name, &d), Arrived: d.Arrived.UTC(), Outcome: d.Outcome.String(), Event: eventDetail(&d.Event.Event)}, nil
}

// DeadLettersVersion implements admin.Node.
func (s *status) DeadLettersVersion(name string) (string, error) {
	if name == admin.SessionLetters {
		return strconv.FormatUint(s.now().dead.version(), 36), nil
	}
	p := s.now().pool(name)
	if p == nil {
		return "", admin.ErrNotFound
	}
	return strconv.FormatUint(p.LettersVersion(), 36), nil
}

// Replay implements admin.Node.
func (s *status) Replay(ctx context.Context, name string, ids []uint64) (done int, err error) {
	if name == admin.SessionLetters {
		return s.replaySessions(ctx, ids)
	}
	p := s.now().pool(name)
	switch {
	case p == nil:
		return 0, admin.ErrNotFound
	case len(ids) == 0:
		return p.ReplayAll()
	}
	for _, id := range slices.Sorted(slices.Values(ids)) {
		switch e := p.Replay(id); {
		case errors.Is(e, pool.ErrUnknown):
			err = admin.ErrNotFound
		case e != nil:
			return done, e
		default:
			done++
		}
	}
	return done, err
}

// replaySessions gives dead letters of sessions back to them.
func (s *status) replaySessions(ctx context.Context, ids []uint64) (done int, err error) {
	if len(ids) == 0 {
		ids = s.now().dead.ids()
	}
	for _, id := range slices.Sorted(slices.Values(ids)) {
		d, ok := s.now().dead.find(id)
		if !ok {
			err = admin.ErrNotFound
			continue
		}
		taken := false
		switch e := s.find(ctx, d.client, func(x *session.Session) { taken = x.Redeliver(d.ev) && s.now().dead.remove(id) }); {
		case errors.Is(e, admin.ErrNotFound):
			err = fmt.Errorf("the session of client %q is gone", d.client)
		case e != nil:
			return done, e
		case !taken:
			err = fmt.Errorf("the outbox of client %q is full", d.client)
		default:
			done++
		}
	}
	return done, err
}

// Purge implements admin.Node.
func (s *status) Purge(name string, ids []uint64) (done int, err error) {
	if name == admin.SessionLetters {
		if len(ids) == 0 {
			ids = s.now().dead.ids()
		}
		for _, id := range ids {
			if s.now().dead.remove(id) {
				done++
			}
		}
		return done, nil
	}
	p := s.now().pool(name)
	if p == nil {
		return 0, admin.ErrNotFound
	}
	return p.Purge(ids...), nil
}

// inspected is a source that tells about itself.
type inspected interface {
	Inspect() (pool string, filters []string, pending int, bytes, bound int64)
}

// Sources implements admin.Node.
func (s *status) Sources() []admin.Source {
	var out []admin.Source
	for i, e := range s.now().snap.Entries("sources") {
		x := admin.Source{Name: e.Name, Type: e.Kind}
		if i < len(s.now().sources) {
			if src, ok := s.now().sources[i].(inspected); ok {
				x.Pool, x.Filters, x.Pending, x.PendingBytes, x.PendingBound = src.Inspect()
			}
		}
		out = append(out, x)
	}
	return out
}
