package pool

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func only(t *testing.T, l *ledger, token uint64, want event.Outcome) {
	t.Helper()
	if got := l.of(token); len(got) != 1 || got[0] != want {
		t.Errorf("ticket %d: settled %v, want once %v", token, got, want)
	}
}

func TestUpstreamSettlesOnceAfterTheLastAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{serve: script(busy, busy, busy, yes)}
		p, stop := start(t, Spec{}, d)
		defer stop()
		l := newLedger()
		begin := time.Now()
		p.Leg(Upstream).Deliver(ev("c", 0, 1), event.Ticket{To: l, Token: 7})
		synctest.Wait()
		if got := l.of(7); got != nil {
			t.Fatalf("settled %v while the member failed", got)
		}
		time.Sleep(20 * time.Second)
		only(t, l, 7, event.Accepted)
		sent := d.sent()
		if len(sent) != 4 {
			t.Fatalf("%d attempts, want 4", len(sent))
		}
		for i, s := range sent {
			if s.id != sent[0].id || s.ev != sent[0].ev {
				t.Errorf("attempt %d is another event", i)
			}
		}
		if pause := l.at[7].Sub(begin); pause < 700*time.Millisecond || pause > 1400*time.Millisecond {
			t.Errorf("accepted after %v, want the back-off of 200, 400 and 800 ms less jitter", pause)
		}
		if s := p.Stats(); s.Retried != 3 || s.Delivered != 1 || s.Queued != 0 || s.Bytes != 0 {
			t.Errorf("stats %+v", s)
		}
		invariants(t, p)
	})
}

func TestUpstreamDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		d    *fakeDriver
		want event.Outcome
	}{
		"member down":     {&fakeDriver{refuse: func(string) error { return errors.New("connection refused") }}, event.Unavailable},
		"member fails":    {&fakeDriver{serve: script(busy)}, event.Unavailable},
		"member throttle": {&fakeDriver{serve: script(Result{Outcome: event.Throttled, Retry: true, After: time.Hour})}, event.Throttled},
		"no answer":       {&fakeDriver{}, event.Indeterminate},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				p, stop := start(t, Spec{Timeout: time.Minute, Attempts: 1000}, c.d)
				defer stop()
				l, begin := newLedger(), time.Now()
				p.Leg(Upstream).Deliver(ev("c", 0, 1), event.Ticket{To: l, Token: 1})
				time.Sleep(29 * time.Second)
				if got := l.of(1); got != nil {
					t.Fatalf("settled %v before the deadline", got)
				}
				time.Sleep(2 * time.Second)
				only(t, l, 1, c.want)
				if took := l.at[1].Sub(begin); took != DefaultDeadline {
					t.Errorf("settled after %v", took)
				}
				if s := p.Stats(); s.Queued != 0 || s.Undecided != 1 || s.Refused["deadline"] != 1 {
					t.Errorf("stats %+v", s)
				}
				invariants(t, p)
			})
		})
	}
}

func TestDecide(t *testing.T) {
	refuse := func(t *testing.T, f func(p *Pool, leg *Leg, l *ledger)) {
		inBubble(t, func(t *testing.T) {
			p, stop := start(t, Spec{}, &fakeDriver{serve: script(never)})
			defer stop()
			f(p, p.Leg(Upstream), newLedger())
			invariants(t, p)
		})
	}
	t.Run("park", func(t *testing.T) {
		refuse(t, func(p *Pool, leg *Leg, l *ledger) {
			leg.Deliver(ev("c", 0, 5), event.Ticket{To: l, Token: 1})
			synctest.Wait()
			only(t, l, 1, event.BadPayload)
			if n := len(p.DeadLetters(0, 10)); n != 0 {
				t.Errorf("%d dead letters before the decision", n)
			}
			leg.Decide(1, true)
			leg.Decide(1, true)
			got := p.DeadLetters(0, 10)
			if len(got) != 1 {
				t.Fatalf("dead letters %v", got)
			}
			if d := got[0]; d.Reason != "refused" || d.Outcome != event.BadPayload || d.Attempts != 1 || string(d.Event.Payload) != "5" || d.Error != "status 400" {
				t.Errorf("dead letter %+v", d)
			}
		})
	})
	t.Run("forget", func(t *testing.T) {
		refuse(t, func(p *Pool, leg *Leg, l *ledger) {
			leg.Deliver(ev("c", 0, 5), event.Ticket{To: l, Token: 1})
			synctest.Wait()
			leg.Decide(1, false)
			if s := p.Stats(); s.Undecided != 0 || s.DeadLetters != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	})
	t.Run("within Settle", func(t *testing.T) {
		refuse(t, func(p *Pool, leg *Leg, l *ledger) {
			l.then = func(token uint64, _ event.Outcome) { leg.Decide(token, token == 1) }
			for token := range uint64(3) {
				leg.Deliver(ev("c", 0, 5), event.Ticket{To: l, Token: token})
			}
			synctest.Wait()
			if s := p.Stats(); s.Undecided != 0 || s.DeadLetters != 1 {
				t.Errorf("stats %+v", s)
			}
		})
	})
	t.Run("never", func(t *testing.T) {
		refuse(t, func(p *Pool, leg *Leg, l *ledger) {
			leg.Deliver(ev("c", 0, 5), event.Ticket{To: l, Token: 1})
			time.Sleep(61 * time.Second)
			if got := p.DeadLetters(0, 10); len(got) != 1 || got[0].Reason != "undecided" {
				t.Errorf("dead letters %+v", got)
			}
		})
	})
	t.Run("unknown", func(t *testing.T) {
		refuse(t, func(_ *Pool, leg *Leg, _ *ledger) { leg.Decide(99, true) })
	})
	t.Run("several events under one token", func(t *testing.T) {
		refuse(t, func(p *Pool, leg *Leg, l *ledger) {
			for range 3 {
				leg.Deliver(ev("c", 0, 5), event.Ticket{To: l, Token: 1})
			}
			synctest.Wait()
			leg.Decide(1, true)
			if s := p.Stats(); s.Undecided != 0 || s.DeadLetters != 3 {
				t.Errorf("stats %+v", s)
			}
		})
	})
}

// TestDecideBeforeTheAnswer: the fan-in may give up before the pool does.
func TestDecideBeforeTheAnswer(t *testing.T) {
	for _, park := range []bool{true, false} {
		inBubble(t, func(t *testing.T) {
			down := true
			d := &fakeDriver{serve: script(yes), refuse: func(string) error {
				if down {
					return errors.New("connection refused")
				}
				return nil
			}}
			p, stop := start(t, Spec{}, d)
			defer stop()
			leg, l := p.Leg(Upstream), newLedger()
			leg.Deliver(ev("c", 0, 1), event.Ticket{To: l, Token: 1})
			synctest.Wait()
			leg.Decide(1, park)
			time.Sleep(time.Minute)
			if got := l.of(1); got != nil {
				t.Errorf("park %v: a withdrawn ticket was settled %v", park, got)
			}
			d.mu.Lock()
			down = false
			d.mu.Unlock()
			time.Sleep(time.Minute)
			want := map[bool]int{true: 1, false: 0}[park]
			if n := len(d.sent()); n != want {
				t.Errorf("park %v: sent %d times, want %d", park, n, want)
			}
			invariants(t, p)
		})
	}
}

func TestReceivedIsAcknowledgedAtOnceAndKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		down := true
		d := &fakeDriver{serve: script(yes), refuse: func(string) error {
			if down {
				return errors.New("connection refused")
			}
			return nil
		}}
		p, stop := start(t, Spec{}, d)
		defer stop()
		l := newLedger()
		for i := range uint64(100) {
			p.Leg(Received).Deliver(ev("c", 0, int(i)), event.Ticket{To: l, Token: i})
			only(t, l, i, event.Accepted)
		}
		time.Sleep(time.Hour)
		if s := p.Stats(); s.Queued != 100 || s.Members[0].State != Down || s.Members[0].LastErr != "connection refused" {
			t.Errorf("stats %+v", s)
		}
		d.mu.Lock()
		down = false
		d.mu.Unlock()
		time.Sleep(time.Minute)
		sent := d.sent()
		if len(sent) != 100 {
			t.Fatalf("%d sent, want 100", len(sent))
		}
		for i, s := range sent {
			if string(s.ev.Payload) != fmt.Sprint(i) {
				t.Fatalf("event %s in place %d", s.ev.Payload, i)
			}
		}
		d.mu.Lock()
		dials := d.dials
		d.mu.Unlock()
		if dials > 400 {
			t.Errorf("%d dials in an hour", dials)
		}
		invariants(t, p)
	})
}

func TestOverflow(t *testing.T) {
	down := func(string) error { return errors.New("connection refused") }
	for name, c := range map[string]struct {
		rule    string
		ack     Ack
		qos     event.QoS
		want    event.Outcome // of the event that does not fit
		queue   []int
		letters []int
		dropped int
	}{
		"reject":                 {Reject, Received, 1, event.Unavailable, []int{0, 1, 2}, nil, 0},
		"reject upstream":        {Reject, Upstream, 1, event.Unavailable, []int{0, 1, 2}, nil, 0},
		"drop_new":               {DropNew, Received, 1, event.Accepted, []int{0, 1, 2}, []int{3}, 0},
		"drop_new upstream":      {DropNew, Upstream, 1, event.Unavailable, []int{0, 1, 2}, nil, 0},
		"drop_old":               {DropOld, Received, 1, event.Accepted, []int{1, 2, 3}, []int{0}, 0},
		"drop_new at most once":  {DropNew, Received, 0, event.Accepted, []int{0, 1, 2}, nil, 1},
		"drop_old at most once":  {DropOld, Received, 0, event.Accepted, []int{1, 2, 3}, nil, 1},
		"drop_old from upstream": {DropOld, Upstream, 1, event.Throttled, []int{1, 2, 3}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				p, stop := start(t, Spec{QueueMax: 3, Overflow: c.rule, Drain: time.Millisecond}, &fakeDriver{refuse: down})
				defer stop()
				l := newLedger()
				for i := range 4 {
					e, tk := ev("c", i, i), event.Ticket{To: l, Token: uint64(i)}
					if e.QoS = c.qos; c.qos == 0 {
						tk = event.Ticket{}
					}
					p.Leg(c.ack).Deliver(e, tk)
				}
				synctest.Wait()
				switch {
				case c.qos == 0:
				case c.rule == DropOld && c.ack == Upstream:
					only(t, l, 0, c.want)
				default:
					only(t, l, 3, c.want)
				}
				var got []int
				p.mu.Lock()
				for it := range p.age.all() {
					got = append(got, int(it.ev.Payload[0]-'0'))
				}
				p.mu.Unlock()
				if !slices.Equal(got, c.queue) {
					t.Errorf("queue %v, want %v", got, c.queue)
				}
				var letters []int
				for _, d := range p.DeadLetters(0, 10) {
					letters = append(letters, int(d.Event.Payload[0]-'0'))
				}
				if !slices.Equal(letters, c.letters) {
					t.Errorf("dead letters %v, want %v", letters, c.letters)
				}
				if n := p.Stats().Dropped["overflow"]; int(n) != c.dropped {
					t.Errorf("%d dropped, want %d", n, c.dropped)
				}
				invariants(t, p)
			})
		})
	}
}

func TestQueueBoundInBytes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, stop := start(t, Spec{Queue: 10_000}, &fakeDriver{})
		defer stop()
		synctest.Wait()
		l := newLedger()
		big := ev("c", 0, 0)
		big.Payload = make([]byte, 10_001)
		p.Leg(Received).Deliver(big, event.Ticket{To: l, Token: 1})
		only(t, l, 1, event.TooLarge)
		for i := range uint64(20) {
			e := ev("c", 0, 0)
			e.Payload = make([]byte, 1000)
			p.Leg(Received).Deliver(e, event.Ticket{To: l, Token: 10 + i})
		}
		s := p.Stats()
		if s.Queued != 8 || s.Bytes > 10_000 {
			t.Errorf("%d events with %d bytes", s.Queued, s.Bytes)
		}
		only(t, l, 10, event.Accepted)
		only(t, l, 29, event.Throttled)
		invariants(t, p)
	})
}

func TestAttemptsEndInDeadLetterAndReplay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{serve: script(busy)}
		p, stop := start(t, Spec{Attempts: 3}, d)
		defer stop()
		p.Leg(Received).Deliver(ev("c", 0, 1), event.Ticket{To: newLedger(), Token: 1})
		p.Leg(Received).Deliver(ev("c", 0, 2), event.Ticket{To: newLedger(), Token: 2})
		time.Sleep(time.Minute)
		got := p.DeadLetters(0, 10)
		if len(got) != 2 || got[0].Attempts != 3 || got[0].Reason != "attempts" || string(got[0].Event.Payload) != "1" || !got[0].Parked.After(got[0].Arrived) {
			t.Fatalf("dead letters %+v", got)
		}
		if after := p.DeadLetters(got[0].ID, 10); len(after) != 1 || after[0].ID != got[1].ID {
			t.Errorf("second page %+v", after)
		}
		d.mu.Lock()
		d.serve = script(yes)
		first := d.sends[0].id
		d.sends = nil
		d.mu.Unlock()
		if err := p.Replay(got[0].ID); err != nil {
			t.Fatal(err)
		}
		if err := p.Replay(got[0].ID); !errors.Is(err, ErrUnknown) {
			t.Errorf("second replay: %v", err)
		}
		synctest.Wait()
		if s := d.sent(); len(s) != 1 || s[0].id != first {
			t.Errorf("replayed %v, want the same id %v", s, first)
		}
		if n := p.Purge(got[1].ID, 12345); n != 1 {
			t.Errorf("purged %d", n)
		}
		if s := p.Stats(); s.DeadLetters != 0 || s.DeadLetterBytes != 0 || s.Delivered != 1 {
			t.Errorf("stats %+v", s)
		}
		invariants(t, p)
	})
}

func TestDeadLettersAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, stop := start(t, Spec{DeadLettersMax: 10, DeadLetters: 1200}, &fakeDriver{serve: script(never)})
		defer stop()
		for i := range 100 {
			p.Leg(Received).Deliver(ev("c", i, i), event.Ticket{})
		}
		synctest.Wait()
		s := p.Stats()
		if s.DeadLetters == 0 || s.DeadLetterBytes > 1200 || s.Dropped["dead_letters_full"] != uint64(100-s.DeadLetters) {
			t.Errorf("stats %+v", s)
		}
		if got := p.DeadLetters(0, 100); string(got[len(got)-1].Event.Payload) != "99" {
			t.Error("the newest was dropped")
		}
		invariants(t, p)
	})
}

func TestUndecidedAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, stop := start(t, Spec{DeadLettersMax: 10}, &fakeDriver{serve: script(never)})
		defer stop()
		l := newLedger()
		for i := range 100 {
			p.Leg(Upstream).Deliver(ev("c", i, i), event.Ticket{To: l, Token: uint64(i)})
		}
		synctest.Wait()
		if s := p.Stats(); s.Undecided != 10 || s.DeadLetters != 10 || s.Parked["undecided"] != 90 {
			t.Errorf("stats %+v", s)
		}
		invariants(t, p)
	})
}

func TestExpiryAndAge(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		down := true
		d := &fakeDriver{serve: script(yes), refuse: func(string) error {
			if down {
				return errors.New("connection refused")
			}
			return nil
		}}
		p, stop := start(t, Spec{MaxAge: time.Hour}, d)
		defer stop()
		short := ev("c", 0, 1)
		short.Expires = time.Now().Add(time.Minute).UnixNano()
		p.Leg(Received).Deliver(short, event.Ticket{})
		p.Leg(Received).Deliver(ev("c", 0, 2), event.Ticket{})
		time.Sleep(30 * time.Minute)
		p.Leg(Received).Deliver(ev("c", 0, 3), event.Ticket{})
		time.Sleep(31 * time.Minute)
		if got := p.DeadLetters(0, 10); len(got) != 2 || got[0].Reason != "max_age" {
			t.Errorf("dead letters %+v", got)
		}
		short = ev("c", 0, 4)
		short.Expires = time.Now().Add(time.Minute).UnixNano()
		l := newLedger()
		p.Leg(Upstream).Deliver(short, event.Ticket{To: l, Token: 1})
		p.Leg(Received).Deliver(short, event.Ticket{})
		time.Sleep(2 * time.Minute)
		d.mu.Lock()
		down = false
		d.mu.Unlock()
		time.Sleep(time.Minute)
		if sent := d.sent(); len(sent) != 1 || string(sent[0].ev.Payload) != "3" {
			t.Errorf("sent %v", sent)
		}
		if s := p.Stats(); s.Dropped["expired"] != 1 {
			t.Errorf("stats %+v", s)
		}
		invariants(t, p)
	})
}

func TestRetryAfterPausesTheMember(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{window: 10, serve: script(Result{Outcome: event.Throttled, Retry: true, After: 20 * time.Second}, yes)}
		p, stop := start(t, Spec{}, d)
		defer stop()
		begin := time.Now()
		for i := range 5 {
			p.Leg(Received).Deliver(ev("c", i, i), event.Ticket{})
		}
		time.Sleep(time.Second)
		if s := p.Stats(); s.Members[0].State != Paused {
			t.Errorf("member is %s", s.Members[0].State)
		}
		time.Sleep(time.Minute)
		sent := d.sent()
		if len(sent) != 6 {
			t.Fatalf("%d sent, want 6", len(sent))
		}
		for i, s := range sent[1:] {
			if s.at.Sub(begin) < 20*time.Second {
				t.Errorf("send %d after %v", i+1, s.at.Sub(begin))
			}
		}
	})
}

func TestRetryGoesToAnotherMember(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{serve: func(l *fakeLink, s send) {
			if l.member == "fake://bad" {
				s.done(Result{Outcome: event.Unavailable, Retry: true, Down: true, Err: errors.New("connection refused")})
				return
			}
			s.done(yes)
		}}
		p, stop := start(t, Spec{Attempts: 2}, d, "fake://bad", "fake://good")
		defer stop()
		synctest.Wait()
		for i := range 50 {
			p.Leg(Received).Deliver(ev("c", i, i), event.Ticket{})
		}
		time.Sleep(time.Minute)
		s := p.Stats()
		if s.Delivered != 50 || s.DeadLetters != 0 {
			t.Errorf("stats %+v", s)
		}
		if s.Members[1].State != Up || s.Members[1].LastErr != "" || s.Members[0].LastErr == "" {
			t.Errorf("members %+v", s.Members)
		}
		if bad := len(d.sent()) - 50; bad > 12 {
			t.Errorf("the dead member was tried %d times", bad)
		}
	})
}

// TestDownDoesNotCountAsAttempt: a destination that is down for a day costs no event.
func TestDownDoesNotCountAsAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{serve: script(Result{Outcome: event.Unavailable, Retry: true, Down: true, Err: errors.New("connection refused")})}
		p, stop := start(t, Spec{Attempts: 2}, d)
		defer stop()
		for i := range 20 {
			p.Leg(Received).Deliver(ev("c", i, i), event.Ticket{})
		}
		time.Sleep(23 * time.Hour)
		tries := len(d.sent())
		if tries > 23*60*60/10 {
			t.Errorf("%d attempts in 23 hours", tries)
		}
		d.mu.Lock()
		d.serve = script(yes)
		d.mu.Unlock()
		time.Sleep(time.Minute)
		if s := p.Stats(); s.Delivered != 20 || s.DeadLetters != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestFailingMemberRests: answers that fail rest a member only while another one is up.
func TestFailingMemberRests(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{window: 4, serve: func(l *fakeLink, s send) {
			if l.member == "fake://bad" {
				s.done(busy)
				return
			}
			s.done(yes)
		}}
		p, stop := start(t, Spec{Attempts: 20}, d, "fake://bad", "fake://good")
		defer stop()
		for i := range 200 {
			p.Leg(Received).Deliver(ev("c", i, i), event.Ticket{})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if s := p.Stats(); s.Delivered != 200 {
			t.Errorf("stats %+v", s)
		}
		if bad := len(d.sent()) - 200; bad > 60 {
			t.Errorf("the failing member was tried %d times", bad)
		}
	})
}

// TestLateAcceptance: an answer after the attempt was given up still counts, so that nothing is sent twice needlessly.
func TestLateAcceptance(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{}
		p, stop := start(t, Spec{Timeout: time.Second, Backoff: Range{10 * time.Second, 10 * time.Second}}, d)
		defer stop()
		l := newLedger()
		p.Leg(Upstream).Deliver(ev("c", 0, 1), event.Ticket{To: l, Token: 1})
		time.Sleep(2 * time.Second) // overdue, waits for the next attempt
		sent := d.sent()
		sent[0].done(yes)
		sent[0].done(yes)
		sent[0].done(busy)
		only(t, l, 1, event.Accepted)
		time.Sleep(time.Minute)
		if n := len(d.sent()); n != 1 {
			t.Errorf("sent %d times although acknowledged", n)
		}
		// Acknowledged after the sender was told otherwise, before and after it became a dead letter.
		for _, park := range []bool{false, true} {
			p.Leg(Upstream).Deliver(ev("c", 0, 2), event.Ticket{To: l, Token: 2})
			synctest.Wait()
			s := d.sent()
			time.Sleep(40 * time.Second)
			if park {
				p.Leg(Upstream).Decide(2, true)
			}
			s[len(s)-1].done(yes)
			if st := p.Stats(); st.Undecided != 0 || st.DeadLetters != 0 || st.Queued != 0 {
				t.Errorf("park %v: %+v", park, st)
			}
		}
		invariants(t, p)
	})
}

// TestLaneOrderWhileOneWaits: an event that waits for its next attempt holds its lane and no other.
func TestLaneOrderWhileOneWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{window: 100}
		failures := 3
		d.serve = func(_ *fakeLink, s send) {
			if string(s.ev.Topic) == "t/0" && string(s.ev.Payload) == "0" && failures > 0 {
				failures--
				s.done(busy)
				return
			}
			s.done(yes)
		}
		p, stop := start(t, Spec{}, d)
		defer stop()
		for i := range 10 {
			for lane := range 3 {
				p.Leg(Received).Deliver(ev("c", lane, i), event.Ticket{})
			}
		}
		synctest.Wait()
		var others int
		for _, s := range d.sent() {
			if string(s.ev.Topic) != "t/0" {
				others++
			} else if string(s.ev.Payload) != "0" {
				t.Fatalf("event %s overtook", s.ev.Payload)
			}
		}
		if others != 20 {
			t.Errorf("%d events of the other lanes, want 20", others)
		}
		time.Sleep(time.Minute)
		var got []string
		for _, s := range d.sent() {
			if string(s.ev.Topic) == "t/0" {
				got = append(got, string(s.ev.Payload))
			}
		}
		if want := strings.Fields("0 0 0 0 1 2 3 4 5 6 7 8 9"); !slices.Equal(got, want) {
			t.Errorf("lane 0: %v, want %v", got, want)
		}
	})
}

// TestOrderedLinkKeepsItsSession: several events of a lane are in flight; when the link dies they stay with the driver.
func TestOrderedLinkKeepsItsSession(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{ordered: true, window: 3}
		p, stop := start(t, Spec{Timeout: time.Minute}, d)
		defer stop()
		l := newLedger()
		synctest.Wait()
		p.Leg(Upstream).Deliver(ev("c", 0, 100), event.Ticket{To: l, Token: 100})
		synctest.Wait()
		d.sent()[0].done(yes) // the link is proven
		for i := range 6 {
			p.Leg(Upstream).Deliver(ev("c", 0, i), event.Ticket{To: l, Token: uint64(i)})
		}
		synctest.Wait()
		if n := len(d.sent()); n != 4 {
			t.Fatalf("%d sent, want the window of 3 besides the first", n)
		}
		_ = d.dialed()[0].Close()
		time.Sleep(5 * time.Second)
		if len(d.dialed()) != 2 || len(d.sent()) != 4 {
			t.Fatalf("%d links, %d sends: the pool must not repeat what is in the session", len(d.dialed()), len(d.sent()))
		}
		for _, s := range d.sent()[1:] { // the resumed session answers
			s.done(yes)
		}
		time.Sleep(5 * time.Second)
		for i := range 6 {
			if i == 3 {
				d.sent()[4].done(yes)
			}
			if i > 3 {
				time.Sleep(time.Second)
				d.sent()[i+1].done(yes)
			}
			only(t, l, uint64(i), event.Accepted)
		}
		if n := len(d.sent()); n != 7 {
			t.Errorf("%d sends for 7 events", n)
		}
		invariants(t, p)
	})
}

// TestOrderedLinkHoldsBehindARefusal: what is in flight cannot be called back, but nothing more is sent before the event
// that has to be tried again.
func TestOrderedLinkHoldsBehindARefusal(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{ordered: true, window: 3, serve: script(yes)}
		p, stop := start(t, Spec{Timeout: time.Minute}, d)
		defer stop()
		p.Leg(Received).Deliver(ev("c", 0, 0), event.Ticket{})
		synctest.Wait()
		d.mu.Lock()
		d.serve, d.sends = nil, nil
		d.mu.Unlock()
		for i := range 5 {
			p.Leg(Received).Deliver(ev("c", 0, i+1), event.Ticket{})
		}
		synctest.Wait()
		s := d.sent()
		s[0].done(busy)
		time.Sleep(time.Minute / 2)
		if n := len(d.sent()); n != 3 {
			t.Fatalf("%d sent while two were in flight behind a refused one", n)
		}
		s[1].done(yes)
		s[2].done(busy)
		d.mu.Lock()
		d.serve = script(yes)
		d.mu.Unlock()
		time.Sleep(time.Minute)
		var got []string
		for _, s := range d.sent() {
			got = append(got, string(s.ev.Payload))
		}
		if want := strings.Fields("1 2 3 1 3 4 5"); !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
		invariants(t, p)
	})
}

// TestOrderedLinkIsClosedWhenOverdue: nothing may be repeated on a living session.
func TestOrderedLinkIsClosedWhenOverdue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{ordered: true, window: 3}
		p, stop := start(t, Spec{Timeout: time.Second}, d)
		defer stop()
		p.Leg(Received).Deliver(ev("c", 0, 0), event.Ticket{})
		time.Sleep(30 * time.Second)
		select {
		case <-d.dialed()[0].done:
			t.Fatal("link was closed although a broker may hold its answer")
		default:
		}
		time.Sleep(1100 * time.Millisecond)
		select {
		case <-d.dialed()[0].done:
		default:
			t.Fatal("link is still open")
		}
		if s := p.Stats(); s.Members[0].LastErr != errOverdue.Error() {
			t.Errorf("member %+v", s.Members[0])
		}
		time.Sleep(5 * time.Second)
		if n := len(d.sent()); n != 1 {
			t.Errorf("%d sends", n)
		}
		d.sent()[0].done(Result{Outcome: event.Unavailable, Retry: true, Down: true}) // the driver gives it back
		time.Sleep(20 * time.Second)
		if n := len(d.sent()); n != 2 {
			t.Errorf("%d sends after it was given back, want 2", n)
		}
		d.sent()[1].done(yes)
		invariants(t, p)
	})
}

func TestLoopIsCut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{serve: script(yes)}
		p, stop := start(t, Spec{}, d)
		defer stop()
		e := ev("c", 0, 1)
		e.From.Pool = "test"
		l := newLedger()
		p.Leg(Upstream).Deliver(e, event.Ticket{To: l, Token: 1})
		only(t, l, 1, event.Accepted)
		synctest.Wait()
		if len(d.sent()) != 0 || p.Stats().Dropped["loop"] != 1 {
			t.Errorf("sent %v, stats %+v", d.sent(), p.Stats())
		}
	})
}

func TestStopDrains(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &fakeDriver{}
		d.serve = func(_ *fakeLink, s send) {
			if string(s.ev.Topic) == "t/1" {
				return // never answers
			}
			time.AfterFunc(time.Second, func() { s.done(yes) })
		}
		d.window = 10
		p, stop := start(t, Spec{Timeout: time.Minute, Drain: 3 * time.Second}, d)
		l := newLedger()
		p.Leg(Upstream).Deliver(ev("c", 0, 0), event.Ticket{To: l, Token: 0})
		time.Sleep(2 * time.Second)
		only(t, l, 0, event.Accepted)
		p.Leg(Upstream).Deliver(ev("c", 0, 1), event.Ticket{To: l, Token: 1})
		p.Leg(Upstream).Deliver(ev("c", 1, 2), event.Ticket{To: l, Token: 2})
		p.Leg(Received).Deliver(ev("c", 1, 3), event.Ticket{To: l, Token: 3})
		synctest.Wait()
		begin := time.Now()
		stop()
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("stopped after %v", took)
		}
		only(t, l, 1, event.Accepted)
		only(t, l, 2, event.Indeterminate)
		if got := p.DeadLetters(0, 10); len(got) != 1 || string(got[0].Event.Payload) != "3" || got[0].Reason != "shutdown" {
			t.Errorf("dead letters %+v", got)
		}
		p.Leg(Upstream).Deliver(ev("c", 1, 4), event.Ticket{To: l, Token: 4})
		only(t, l, 4, event.Unavailable)
		if err := p.Replay(1); !errors.Is(err, ErrStopped) {
			t.Errorf("replay on a stopped pool: %v", err)
		}
		invariants(t, p)
	})
}

// TestSpecDefaults: the tags are the one place where a default is declared; New must agree with them.
func TestSpecDefaults(t *testing.T) {
	got := reflect.ValueOf(Spec{}.withDefaults())
	for i := range got.NumField() {
		f := got.Type().Field(i)
		var text string
		switch v := got.Field(i).Interface().(type) {
		case int64:
			text = fmt.Sprintf("%dMiB", v>>20)
		case Range:
			text = short(v.Min) + ".." + short(v.Max)
		case time.Duration:
			text = short(v)
		default:
			text = fmt.Sprint(v)
		}
		if want := f.Tag.Get("default"); text != want || f.Tag.Get("doc") == "" || f.Tag.Get("yaml") == "" {
			t.Errorf("%s: New uses %s, the tag says %q", f.Name, text, want)
		}
	}
}

func short(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	s = strings.TrimSuffix(s, "0m")
	if strings.HasSuffix(s, "m") || strings.HasSuffix(s, "h") || strings.HasSuffix(s, "s") {
		return s
	}
	return d.String()
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"https://user:secret@h.example/x?token=secret#secret": "https://h.example/x",
		"mqtt://b1:1883":      "mqtt://b1:1883",
		"http://[::1:80/\x00": "(unreadable address)",
	} {
		if got := redact(in); got != want {
			t.Errorf("redact(%q) = %q, want %q", in, got, want)
		}
	}
}
