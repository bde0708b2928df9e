package loop

import (
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"
)

// alarm remembers when it went off.
type alarm struct {
	t     Timer
	at    int64
	fired []int64
	then  func(a *alarm, now int64)
}

func (a *alarm) Expire(_ *Timer, now int64) {
	a.fired = append(a.fired, now)
	if a.then != nil {
		a.then(a, now)
	}
}

func TestTimerIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Timer{}); n > 40 {
		t.Errorf("a timer has %d bytes", n)
	}
}

// TestWheelAgainstNaive arms, moves and disarms timers at random and steps through time in random strides: each must go
// off in the first advance at or after its millisecond, and never otherwise.
func TestWheelAgainstNaive(t *testing.T) {
	const ms = int64(time.Millisecond)
	start := time.Date(2026, 3, 1, 0, 0, 0, 123_456, time.UTC).UnixNano()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		span := func() int64 { // from sub-millisecond to weeks
			return r.Int64N(int64(1) << (10 + r.IntN(40)))
		}
		var w wheel
		w.init(start)
		now := start
		alarms := make([]*alarm, 200)
		for i := range alarms {
			alarms[i] = &alarm{}
			alarms[i].t.Init(alarms[i])
		}
		due := func(a *alarm) int64 { return max((a.at+ms-1)/ms*ms, 0) }
		for range 2000 {
			for range 3 {
				a := alarms[r.IntN(len(alarms))]
				if r.IntN(3) == 0 {
					w.disarm(&a.t)
				} else {
					a.at = now + span() - ms
					w.arm(&a.t, a.at)
				}
			}
			armed := 0
			want := map[*alarm]bool{}
			next := now + span()/4
			if at, ok := w.nextAt(); ok && r.IntN(2) == 0 {
				next = max(now, at)
			}
			for _, a := range alarms {
				if !a.t.Armed() {
					continue
				}
				armed++
				// what is overdue when armed goes off in the next tick
				if next/ms > now/ms && due(a) <= next {
					want[a] = true
				}
				a.fired = nil
			}
			if w.count != armed {
				t.Fatalf("count %d, want %d", w.count, armed)
			}
			w.advance(next)
			for _, a := range alarms {
				if got := len(a.fired); got > 1 || (got == 1) != want[a] {
					t.Fatalf("seed %d: alarm due %d fired %d times when time went from %d to %d", seed, due(a), got, now, next)
				}
				if len(a.fired) == 1 && a.t.Armed() {
					t.Fatal("armed after it went off")
				}
				a.fired = nil
			}
			now = next
		}
	}
}

func TestWheelNextIsNotLate(t *testing.T) {
	var w wheel
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	w.init(now)
	if _, ok := w.nextAt(); ok {
		t.Error("an empty wheel has something to do")
	}
	a := &alarm{}
	a.t.Init(a)
	at := now + int64(3*time.Hour+7*time.Millisecond+1)
	w.arm(&a.t, at)
	steps := 0
	for len(a.fired) == 0 {
		next, ok := w.nextAt()
		if !ok || next > at+int64(time.Millisecond) {
			t.Fatalf("next %d, %v, want at most %d", next, ok, at)
		}
		w.advance(next)
		steps++
	}
	if steps > wheelLevels {
		t.Errorf("woke up %d times for one timer", steps)
	}
	if got := a.fired[0]; got < at || got > at+int64(time.Millisecond) {
		t.Errorf("went off %v after its time", time.Duration(got-at))
	}
}

// A timer that arms itself again for a time that has passed waits for the next turn: it must not hold the loop.
func TestWheelRearmInThePast(t *testing.T) {
	var w wheel
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	w.init(now)
	a := &alarm{}
	a.then = func(a *alarm, now int64) { w.arm(&a.t, now-1000) }
	a.t.Init(a)
	w.arm(&a.t, now)
	w.advance(now + int64(10*time.Second))
	if len(a.fired) != 1 {
		t.Errorf("went off %d times in one advance", len(a.fired))
	}
	w.disarm(&a.t)
	w.disarm(&a.t)
	if w.count != 0 || a.t.Armed() {
		t.Error("still armed")
	}
}

// An alarm may disarm another one of the same tick, and move a third.
func TestWheelChangesWhileExpiring(t *testing.T) {
	var w wheel
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	w.init(now)
	at := now + int64(70*time.Millisecond)
	as := make([]*alarm, 3)
	for i := range as {
		as[i] = &alarm{}
		as[i].t.Init(as[i])
		w.arm(&as[i].t, at)
	}
	fired := 0
	for _, a := range as {
		a.then = func(a *alarm, now int64) {
			fired++
			for _, b := range as {
				if b != a {
					w.arm(&b.t, now+int64(time.Second))
				}
			}
		}
	}
	w.advance(at)
	if fired != 1 || w.count != 2 {
		t.Errorf("%d went off, %d armed; want 1 and 2", fired, w.count)
	}
}

func TestTimerOnLoop(t *testing.T) {
	g := testGroup(t, Options{Loops: 1})
	l := g.Loops()[0]
	done := make(chan int64, 1)
	a := &alarm{then: func(a *alarm, now int64) { done <- now - a.at }}
	a.t.Init(a)
	on(t, l, func() {
		a.at = l.Now() + int64(30*time.Millisecond)
		l.Arm(&a.t, a.at)
	})
	if late := wait(t, done); late < 0 {
		t.Errorf("went off %v early", time.Duration(-late))
	} else if late > int64(2*time.Second) {
		t.Errorf("went off %v late", time.Duration(late))
	}
}

func BenchmarkTimerArm(b *testing.B) {
	var w wheel
	w.init(time.Now().UnixNano())
	as := make([]alarm, 10000)
	now := time.Now().UnixNano()
	b.ReportAllocs()
	for i := range b.N {
		w.arm(&as[i%len(as)].t, now+int64(i)*1_000_003%int64(time.Minute))
	}
}

func TestWheelByHand(t *testing.T) {
	w := NewWheel(1_000_000)
	a := &alarm{}
	a.t.Init(a)
	w.Arm(&a.t, 5_000_000)
	w.Advance(4_999_999)
	if len(a.fired) != 0 {
		t.Error("early")
	}
	w.Disarm(&a.t)
	w.Advance(9_000_000)
	w.Arm(&a.t, 12_000_000)
	w.Advance(12_000_000)
	if len(a.fired) != 1 {
		t.Errorf("fired %v", a.fired)
	}
}
