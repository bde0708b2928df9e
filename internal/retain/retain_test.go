package retain

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/windrose-edc/windrose/internal/event"
)

func kept(topic, payload string, at int64) *event.Kept {
	return (&event.Event{Topic: []byte(topic), Payload: []byte(payload), Time: at, Retain: true}).Keep()
}

func match(s *Store, filter string, now int64) []string {
	var got []string
	s.Match([]byte(filter), now, func(k *event.Kept) bool {
		got = append(got, string(k.Topic)+"="+string(k.Payload))
		return true
	})
	slices.Sort(got)
	return got
}

// 3.3.1.3: the last event of a topic is kept, an empty payload clears it.
func TestSetReplacesAndClears(t *testing.T) {
	s := New(Limits{})
	for i, p := range []string{"1", "2"} {
		if err := s.Set(kept("a/b", p, int64(i))); err != nil {
			t.Fatal(err)
		}
	}
	if got := match(s, "a/b", 0); !slices.Equal(got, []string{"a/b=2"}) {
		t.Fatal(got)
	}
	if err := s.Set(kept("a/b", "old", 0)); err != nil || match(s, "#", 0)[0] != "a/b=2" {
		t.Error("an older event replaced a newer one")
	}
	if err := s.Set(kept("a/b", "", 9)); err != nil || s.Len() != 0 || s.Bytes() != 0 || len(s.root.kids) != 0 {
		t.Errorf("not cleared: %d events, %d bytes, %d nodes", s.Len(), s.Bytes(), len(s.root.kids))
	}
}

func TestLimits(t *testing.T) {
	s := New(Limits{MaxMessages: 2, MaxBytes: 1000, MaxPayload: 600})
	if s.Set(kept("a", "x", 0)) != nil || s.Set(kept("b", "x", 0)) != nil || s.Set(kept("c", "x", 0)) != ErrFull {
		t.Error("the bound on topics does not hold")
	}
	if s.Set(kept("a", string(make([]byte, 601)), 1)) != ErrTooLarge {
		t.Error("the bound on a payload does not hold")
	}
	if s.Set(kept("a", string(make([]byte, 500)), 1)) != nil || s.Set(kept("b", string(make([]byte, 500)), 1)) != ErrFull {
		t.Error("the bound on bytes does not hold")
	}
	if s.Refused() != 3 {
		t.Errorf("%d refusals counted", s.Refused())
	}
}

func TestExpired(t *testing.T) {
	s := New(Limits{})
	for i := range 10 {
		k := kept(fmt.Sprintf("$x/%d", i), "x", 0)
		k.Expires = int64(i)
		if err := s.Set(k); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(match(s, "$x/+", 5)); n != 5 { // 0 never expires, 6 to 9 have not yet
		t.Errorf("%d left", n)
	}
	if n := s.Sweep(5, 3); n != 5 || s.Len() != 5 {
		t.Errorf("swept %d, %d left", n, s.Len())
	}
}

// Every filter finds what the naive matcher finds, in steps of any size and with a reader that stops anywhere.
func TestScanAgainstNaive(t *testing.T) {
	level := rapid.SampledFrom([]string{"", "a", "b", "$s"})
	flevel := rapid.SampledFrom([]string{"", "a", "b", "+", "$s"})
	rapid.Check(t, func(t *rapid.T) {
		s := New(Limits{})
		want := map[string]bool{}
		for range rapid.IntRange(0, 30).Draw(t, "topics") {
			topic := join(rapid.SliceOfN(level, 1, 4).Draw(t, "topic"))
			if topic == "" {
				continue
			}
			payload := rapid.SampledFrom([]string{"", "x"}).Draw(t, "payload")
			if err := s.Set(kept(topic, payload, 0)); err != nil {
				t.Fatal(err)
			}
			want[topic] = payload != ""
		}
		filter := join(rapid.SliceOfN(flevel, 1, 4).Draw(t, "filter"))
		if rapid.Bool().Draw(t, "hash") {
			filter += "/#"
		}
		if !event.ValidFilter([]byte(filter)) {
			return
		}
		c := s.Scan([]byte(filter))
		got := map[string]int{}
		for done := false; !done; {
			n := rapid.IntRange(1, 3).Draw(t, "yields")
			done = c.Next(0, rapid.IntRange(1, 5).Draw(t, "limit"), func(k *event.Kept) bool {
				got[string(k.Topic)]++
				n--
				return n > 0
			})
		}
		for topic, kept := range want {
			w := 0
			if kept && event.Match([]byte(filter), []byte(topic)) {
				w = 1
			}
			if got[topic] != w {
				t.Fatalf("filter %q, topic %q: found %d times, want %d", filter, topic, got[topic], w)
			}
		}
	})
}

func join(levels []string) (s string) {
	for i, l := range levels {
		if i > 0 {
			s += "/"
		}
		s += l
	}
	return s
}

// Readers go on while writers set and clear: nothing comes twice and what was there all the time is found.
func TestScanWhileOthersWrite(t *testing.T) {
	s := New(Limits{})
	for i := range 100 {
		if err := s.Set(kept(fmt.Sprintf("stay/%d", i), "x", 0)); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := int64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			p := "x"
			if i%2 == 0 {
				p = ""
			}
			_ = s.Set(kept(fmt.Sprintf("go/%d", i/2%50), p, i)) // no limits: no error
		}
	})
	for range 50 {
		seen := map[string]bool{}
		c := s.Scan([]byte("#"))
		for !c.Next(0, 7, func(k *event.Kept) bool {
			if seen[string(k.Topic)] {
				t.Errorf("%s twice", k.Topic)
			}
			seen[string(k.Topic)] = true
			return true
		}) {
		}
		for i := range 100 {
			if !seen[fmt.Sprintf("stay/%d", i)] {
				t.Fatalf("stay/%d is missing", i)
			}
		}
	}
	close(stop)
	wg.Wait()
}
