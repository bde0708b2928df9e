package route

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/windrose-edc/windrose/internal/event"
)

// fanTarget notes what a fan decides. Owned by the test.
type fanTarget struct{ decided map[uint64][]bool }

func (d *fanTarget) Decide(token uint64, park bool) {
	d.decided[token] = append(d.decided[token], park)
}

// fanEnd counts what a fan settles. Owned by the test.
type fanEnd struct{ got map[uint64][]event.Outcome }

func (e *fanEnd) Settle(token uint64, o event.Outcome, _ int) { e.got[token] = append(e.got[token], o) }

// The rule of legs (architecture, section 2), one case a line: what the legs answer in this order, what the publisher
// hears, and what each leg's target is told (nothing, park or forget).
func TestFanRuleOfLegs(t *testing.T) {
	const (
		a, n, th, un = event.Accepted, event.NoMatch, event.Throttled, event.Unavailable
		open         = event.NumOutcomes // no answer
	)
	tests := []struct {
		name string
		legs []event.Outcome
		want event.Outcome
		tell string // by leg: - nothing, p park, f forget
	}{
		{"one accepts", []event.Outcome{a}, a, "-"},
		{"nobody takes", []event.Outcome{n, n}, n, "--"},
		{"the first refusal", []event.Outcome{n, un, th}, un, "-ff"},
		{"refusal after acceptance", []event.Outcome{a, th}, a, "-p"},
		{"acceptance after refusal", []event.Outcome{th, a, un}, a, "p-p"},
		{"deadline, nothing known", []event.Outcome{open, n}, event.Indeterminate, "f-"},
		{"deadline, one accepted", []event.Outcome{open, a, th}, a, "p-p"},
		{"deadline, one refused", []event.Outcome{th, open}, th, "ff"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFan(3)
			d, e := &fanTarget{map[uint64][]bool{}}, &fanEnd{map[uint64][]event.Outcome{}}
			i := f.begin(event.Ticket{To: e, Token: 9}, 100)
			var toks []uint64
			for range tt.legs {
				toks = append(toks, f.leg(i, d))
			}
			f.settle(fanToken(f.loop, i, 0, f.slots[i].gen), n, 1, nil)
			for j, o := range tt.legs {
				if o != open {
					f.settle(toks[j], o, 1, nil)
				}
			}
			if f.expire(99) != 0 {
				t.Error("ended before its deadline")
			}
			f.expire(100)
			if got := e.got[9]; len(got) != 1 || got[0] != tt.want {
				t.Fatalf("settled with %v, want %v", got, tt.want)
			}
			for j, c := range tt.tell {
				got := d.decided[toks[j]]
				if want := c != '-'; want != (len(got) == 1) || want && got[0] != (c == 'p') || len(got) > 1 {
					t.Errorf("leg %d is told %v, want %c", j, got, c)
				}
			}
			if f.n != 0 || f.head != -1 || f.tail != -1 {
				t.Error("the slot is not free")
			}
		})
	}
}

// A leg that answers twice speaks for no other leg, and an answer to a slot that is used again is nobody's.
func TestFanForeignAnswers(t *testing.T) {
	e := &fanEnd{map[uint64][]event.Outcome{}}
	f := newFan(0)
	i := f.begin(event.Ticket{To: e, Token: 1}, 100)
	twice, other := f.leg(i, nil), f.leg(i, nil)
	if twice == other {
		t.Fatal("two legs have the same token")
	}
	f.settle(fanToken(0, i, 0, f.slots[i].gen), event.NoMatch, 1, nil)
	f.settle(twice, event.Throttled, 1, nil)
	f.settle(twice, event.Throttled, 1, nil)
	if len(e.got[1]) != 0 {
		t.Fatal("settled before every leg has answered")
	}
	f.settle(other, event.Accepted, 1, nil)
	if got := e.got[1]; len(got) != 1 || got[0] != event.Accepted {
		t.Fatalf("settled with %v", got)
	}
	if f.late != 1 {
		t.Errorf("%d answers count as late, want 1", f.late)
	}
	j := f.begin(event.Ticket{To: e, Token: 2}, 100)
	if j != i {
		t.Fatal("the slot is not used again")
	}
	f.settle(other, event.Accepted, 1, nil)
	f.settle(^uint64(0), event.Accepted, 1, nil)
	f.settle(0, event.Accepted, 1, nil)
	if len(e.got[2]) != 0 || f.slots[j].accepted {
		t.Error("an answer to the slot's earlier event is taken for one to this")
	}
	if f.late != 4 {
		t.Errorf("%d answers count as late, want 4", f.late)
	}
}

// The tokens of two loops differ: a target knows events by them.
func TestFanTokensOfLoopsDiffer(t *testing.T) {
	seen := map[uint64]int{}
	for l := range 3 {
		f := newFan(l)
		for range 4 {
			i := f.begin(event.Ticket{}, 1)
			for range 3 {
				tok := f.leg(i, nil)
				if other, ok := seen[tok]; ok {
					t.Fatalf("loops %d and %d use the token %x", other, l, tok)
				}
				seen[tok] = l
			}
		}
	}
}

// More legs than a token can number: the outcome comes once, when all have answered.
func TestFanManyLegs(t *testing.T) {
	e := &fanEnd{map[uint64][]event.Outcome{}}
	f := newFan(0)
	i := f.begin(event.Ticket{To: e, Token: 1}, 100)
	var toks []uint64
	for range 300 {
		toks = append(toks, f.leg(i, nil))
	}
	f.settle(fanToken(0, i, 0, f.slots[i].gen), event.NoMatch, 1, nil)
	for j, tok := range toks {
		if len(e.got[1]) != 0 {
			t.Fatalf("settled after %d of 300 legs", j)
		}
		f.settle(tok, event.Accepted, 1, nil)
	}
	if len(e.got[1]) != 1 {
		t.Fatal("not settled")
	}
}

// Slots open and end in any order; deadlines end the oldest first; nothing is lost and nothing told twice.
func TestFanProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type leg struct {
			tok  uint64
			slot uint64
		}
		e := &fanEnd{map[uint64][]event.Outcome{}}
		f := newFan(1)
		now, begun := int64(0), uint64(0)
		var open []leg
		born := map[uint64]int64{}
		rt.Repeat(map[string]func(*rapid.T){
			"begin": func(rt *rapid.T) {
				begun++
				born[begun] = now
				i := f.begin(event.Ticket{To: e, Token: begun}, now+10)
				for range rapid.IntRange(0, 3).Draw(rt, "legs") {
					open = append(open, leg{f.leg(i, nil), begun})
				}
				f.settle(fanToken(1, i, 0, f.slots[i].gen), event.NoMatch, 1, nil)
			},
			"answer": func(rt *rapid.T) {
				if len(open) == 0 {
					return
				}
				l := rapid.SampledFrom(open).Draw(rt, "leg") // some answer twice
				f.settle(l.tok, event.Accepted, 1, nil)
			},
			"time": func(rt *rapid.T) {
				now += int64(rapid.IntRange(1, 12).Draw(rt, "by"))
				f.expire(now)
				for id, at := range born {
					if at+10 <= now && len(e.got[id]) == 0 {
						rt.Fatalf("event %d of time %d is open at %d", id, at, now)
					}
				}
			},
			"": func(rt *rapid.T) {
				left := 0
				for id := uint64(1); id <= begun; id++ {
					switch len(e.got[id]) {
					case 0:
						left++
					case 1:
					default:
						rt.Fatalf("event %d is settled with %v", id, e.got[id])
					}
				}
				if f.n != left || len(f.slots)-len(f.free) != left {
					rt.Fatalf("%d open, the fan says %d, %d of %d slots free", left, f.n, len(f.free), len(f.slots))
				}
			},
		})
	})
}
