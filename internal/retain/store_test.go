package retain

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/windrose-edc/windrose/internal/event"
)

func kept(topic, payload string, at int64) *event.Kept {
	return (&event.Event{Topic: []byte(topic), Payload: []byte(payload), Time: at, Retain: true}).Keep()
}

func expiring(topic string, at int64) *event.Kept {
	return (&event.Event{Topic: []byte(topic), Payload: []byte("x"), Expires: at}).Keep()
}

func set(t *testing.T, s *Store, ks ...*event.Kept) {
	t.Helper()
	for _, k := range ks {
		if err := s.Set(k); err != nil {
			t.Fatal(err)
		}
	}
}

func matches(s *Store, filter string, now int64) []string {
	var got []string
	s.Match([]byte(filter), now, func(k *event.Kept) bool {
		got = append(got, string(k.Topic)+"="+string(k.Payload))
		return true
	})
	return got
}

func TestSetReplacesAndClears_3_3_1_3(t *testing.T) {
	s := New(Limits{})
	set(t, s, kept("a/b", "1", 1), kept("a/b", "2", 2), kept("a/b", "late", 1), kept("a/b", "", 1))
	if k := s.Get([]byte("a/b")); k == nil || string(k.Payload) != "2" {
		t.Fatal("an older event replaced or cleared a newer one")
	}
	set(t, s, kept("a/b", "same", 2))
	if string(s.Get([]byte("a/b")).Payload) != "same" {
		t.Fatal("of two events of the same time the later call must win")
	}
	set(t, s, kept("a/b", "", 5), kept("a/b", "dead", 4))
	if s.Get([]byte("a/b")) != nil || s.Len() != 0 || s.Bytes() != 0 || len(s.order.blocks) != 0 {
		t.Fatalf("not cleared, or an older event came to life: %+v", s.Stats())
	}
	set(t, s, kept("a/b", "new", 5))
	if st := s.Stats(); st.Messages != 1 || st.Bytes != cost(kept("a/b", "new", 5)) || st.Stored != 4 || st.Cleared != 1 || st.Stale != 3 {
		t.Fatalf("%+v", st)
	}
}

func TestLimits(t *testing.T) {
	s := New(Limits{MaxMessages: 2, MaxBytes: 1200, MaxPayload: 700})
	set(t, s, kept("a", "x", 0), kept("b", "x", 0))
	if err := s.Set(kept("c", "x", 0)); !errors.Is(err, ErrFull) {
		t.Errorf("topics: %v", err)
	}
	set(t, s, kept("b", string(make([]byte, 600)), 1))
	if err := s.Set(kept("b", string(make([]byte, 701)), 2)); !errors.Is(err, ErrTooLarge) || s.Get([]byte("b")) != nil {
		t.Errorf("payload: %v; the old event must go", err)
	}
	set(t, s, kept("b", string(make([]byte, 600)), 3))
	if err := s.Set(kept("a", string(make([]byte, 600)), 4)); !errors.Is(err, ErrFull) || s.Get([]byte("a")) != nil {
		t.Errorf("bytes: %v; the old event must go", err)
	}
	if st := s.Stats(); st.Full != 2 || st.TooLarge != 1 || st.Messages != 1 || st.Bytes != s.Bytes() || st.Bytes > 1200 {
		t.Errorf("%+v", st)
	}
	set(t, s, kept("b", "", 5))
	if s.Bytes() != 0 {
		t.Errorf("%d bytes left", s.Bytes())
	}
}

func TestExpiredAreSkippedAndDropped(t *testing.T) {
	s := New(Limits{})
	for i := range 1000 {
		set(t, s, expiring(fmt.Sprintf("$x/%d", i), int64(i)))
	}
	if n := len(matches(s, "$x/+", 500)); n != 500 || s.Len() != 500 { // 0 never expires
		t.Errorf("%d matched, %d left", n, s.Len())
	}
	if n := s.Sweep(900); n != 400 || s.Len() != 100 || s.Stats().Expired != 900 {
		t.Errorf("swept %d, %d left, %+v", n, s.Len(), s.Stats())
	}
	set(t, s, kept("gone", "", 100))
	s.Sweep(50 + clearedFor)
	set(t, s, kept("gone", "old", 60))
	if s.Get([]byte("gone")) != nil {
		t.Error("forgot a clearing within its time")
	}
	s.Sweep(101 + clearedFor)
	set(t, s, kept("gone", "old", 60))
	if s.Get([]byte("gone")) == nil || len(s.cleared.at) != 0 {
		t.Error("remembers a clearing for ever")
	}
}

func TestClearingsAreBounded(t *testing.T) {
	s := New(Limits{})
	for i := range 3 * clearedMax {
		set(t, s, kept(fmt.Sprint(i), "", 5))
	}
	if len(s.cleared.order) > clearedMax || len(s.cleared.at) > clearedMax {
		t.Errorf("%d clearings", len(s.cleared.order))
	}
	long := strings.Repeat("x", 60000)
	for i := range 100 {
		set(t, s, kept(long+fmt.Sprint(i), "", 5))
	}
	if n := len(s.cleared.order); n > clearedBytes/60000+2 {
		t.Errorf("%d long clearings", n)
	}
}

func TestCompare(t *testing.T) {
	sorted := []string{
		"", "/", "//", "/a", "\x00", " ", "!", "$", "a", "a/", "a//", "a/a", "a/a/a", "a/b", "a\x00", "a ", "a!", "a.b", "aa", "abcdefgh", "abcdefgh/a", "abcdefgh ", "b", "\xff",
	}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := compare(a, b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("compare(%q, %q) = %d", a, b, got)
			}
		}
	}
}

// The blocks hold what a sorted list would, under random changes and in order.
func TestOrdered(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		var o ordered
		var want []string
		have := map[string]bool{}
		for i := range 20000 {
			topic := fmt.Sprintf("%d/%d", r.IntN(50), r.IntN(200))
			if seed == 3 && i < 10000 {
				topic = fmt.Sprintf("%08d", i)
			}
			switch {
			case have[topic] && (i > 12000 || r.IntN(2) == 0):
				o.remove(topic)
				delete(have, topic)
			case !have[topic] && (i < 14000 || r.IntN(4) == 0):
				o.insert(&entry{topic: topic})
				have[topic] = true
			default:
				o.remove(topic + "none")
			}
		}
		for topic := range have {
			want = append(want, topic)
		}
		slices.SortFunc(want, compare)
		var got []string
		for p := o.seek("", false); o.get(p) != nil; p = o.next(p) {
			got = append(got, o.get(p).topic)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %d entries, want %d", seed, len(got), len(want))
		}
		if n := len(o.blocks); n > 2+len(want)/(blockMax/8) {
			t.Errorf("seed %d: %d blocks for %d entries", seed, n, len(want))
		}
		for i, topic := range want {
			p, q := o.seek(topic, false), o.seek(topic, true)
			if o.get(p).topic != topic || i+1 < len(want) && o.get(q).topic != want[i+1] || i+1 == len(want) && o.get(q) != nil {
				t.Fatalf("seek %q", topic)
			}
		}
		for _, topic := range want {
			o.remove(topic)
		}
		if len(o.blocks) != 0 {
			t.Errorf("%d blocks left", len(o.blocks))
		}
	}
}

func TestMatch_4_7(t *testing.T) {
	s := New(Limits{})
	for _, topic := range []string{"a", "a/", "a/b", "a/b/c", "a b", "a!/b", "b/b", "/", "/a", "//", "$s", "$s/a", "%/a", "ab"} {
		set(t, s, kept(topic, "x", 0))
	}
	for filter, want := range map[string]string{
		"a": "a", "a/#": "a a/ a/b a/b/c", "a/+": "a/ a/b", "+/b": "a/b a!/b b/b", "+": "a a_b ab", "#": "/ // /a %/a a a/ a/b a/b/c a_b a!/b ab b/b",
		"+/+": "/ /a %/a a/ a/b a!/b b/b", "$s/#": "$s $s/a", "$s/+": "$s/a", "+/a": "/a %/a", "/#": "/ // /a", "/+": "/ /a", "+/b/+": "a/b/c",
		"+/b/#": "a/b a/b/c a!/b b/b", "x": "", "x/#": "", "a/+/+/#": "a/b/c", "+/": "/ a/", "a/b/c/d": "", "+/+/c": "a/b/c",
	} {
		var got []string
		for _, m := range matches(s, filter, 0) {
			got = append(got, strings.ReplaceAll(strings.TrimSuffix(m, "=x"), " ", "_"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", filter, strings.Join(got, " "), want)
		}
	}
	if s.Match(nil, 0, func(*event.Kept) bool { t.Error("matched nothing"); return true }); len(matches(New(Limits{}), "#", 0)) != 0 {
		t.Error("an empty store matched")
	}
}

// Every filter finds what the naive matcher finds, in pieces of any size, by a reader that stops anywhere.
func TestScanAgainstNaive(t *testing.T) {
	level := rapid.SampledFrom([]string{"", "a", "b", "a b", "$s", "aa"})
	flevel := rapid.SampledFrom([]string{"", "a", "b", "a b", "+", "+", "$s"})
	rapid.Check(t, func(t *rapid.T) {
		s, want := New(Limits{}), map[string]bool{}
		for range rapid.IntRange(0, 40).Draw(t, "topics") {
			topic := strings.Join(rapid.SliceOfN(level, 1, 4).Draw(t, "topic"), "/")
			payload := rapid.SampledFrom([]string{"", "x", "x"}).Draw(t, "payload")
			if topic == "" {
				continue
			}
			if err := s.Set(kept(topic, payload, 0)); err != nil {
				t.Fatal(err)
			}
			want[topic] = payload != ""
		}
		filter := strings.Join(rapid.SliceOfN(flevel, 1, 4).Draw(t, "filter"), "/")
		if rapid.Bool().Draw(t, "hash") {
			filter += "/#"
		}
		if !event.ValidFilter([]byte(filter)) {
			return
		}
		c, got := s.Scan([]byte(filter)), map[string]int{}
		for done := false; !done; {
			stop := rapid.IntRange(1, 3).Draw(t, "stop")
			done = c.Next(0, rapid.IntRange(1, 5).Draw(t, "limit"), func(k *event.Kept) bool {
				got[string(k.Topic)]++
				stop--
				return stop > 0
			})
		}
		if !c.Next(0, 5, func(*event.Kept) bool { t.Fatal("more after the end"); return true }) {
			t.Fatal("not done after the end")
		}
		for topic, kept := range want {
			n := 0
			if kept && event.Match([]byte(filter), []byte(topic)) {
				n = 1
			}
			if got[topic] != n {
				t.Fatalf("filter %q, topic %q: found %d times, want %d", filter, topic, got[topic], n)
			}
			delete(got, topic)
		}
		if len(got) > 0 {
			t.Fatalf("filter %q found %v", filter, got)
		}
	})
}

// Where skip goes on, no match is left behind, and it always moves on.
func FuzzSkip(f *testing.F) {
	f.Add("a/+/c", "a/b/d", "a/c/c")
	f.Add("+/#", "$a", "a")
	f.Add("a/#", "a b", "a/ ")
	f.Fuzz(func(t *testing.T, filter, topic, other string) {
		if !event.ValidFilter([]byte(filter)) || !event.ValidTopic([]byte(topic)) || !event.ValidTopic([]byte(other)) {
			return
		}
		to, more := skip(filter, topic)
		if match := event.Match([]byte(filter), []byte(topic)); match != (to == "" && more) {
			t.Fatalf("skip(%q, %q) = %q, %v", filter, topic, to, more)
		}
		if to != "" && compare(to, topic) <= 0 {
			t.Fatalf("skip(%q, %q) = %q: not behind", filter, topic, to)
		}
		if compare(topic, other) < 0 && event.Match([]byte(filter), []byte(other)) && compare(topic, filter[:fixedPart(filter)]) >= 0 {
			if !more || to != "" && compare(to, other) > 0 {
				t.Fatalf("skip(%q, %q) = %q, %v leaves out %q", filter, topic, to, more, other)
			}
		}
	})
}

// Readers go on while writers set, replace and clear: what stays is found once, nothing comes twice.
func TestScanWhileOthersWrite(t *testing.T) {
	s := New(Limits{})
	for i := range 500 {
		set(t, s, kept(fmt.Sprintf("stay/%d/x", i), "x", 0))
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for w := range uint64(2) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(w, 2))
			for at := int64(1); !stop.Load(); at++ {
				topic, payload := fmt.Sprintf("stay/%d/y", r.IntN(900)), "y"
				switch r.IntN(3) {
				case 0:
					payload = ""
				case 1:
					topic = fmt.Sprintf("stay/%d/x", r.IntN(500))
				}
				if err := s.Set(kept(topic, payload, at)); err != nil {
					t.Error(err)
					return
				}
				if r.IntN(200) == 0 {
					s.Sweep(0)
				}
			}
		})
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		for _, filter := range []string{"#", "stay/+/x", "stay/+/+"} {
			seen := map[string]int{}
			c := s.Scan([]byte(filter))
			for !c.Next(0, 50, func(k *event.Kept) bool {
				seen[string(k.Topic)]++
				return len(seen)%7 != 0
			}) {
			}
			for topic, n := range seen {
				if n != 1 {
					t.Fatalf("%q: %s %d times", filter, topic, n)
				}
			}
			for i := range 500 {
				if seen[fmt.Sprintf("stay/%d/x", i)] != 1 {
					t.Fatalf("%q: stay/%d/x is missing", filter, i)
				}
			}
		}
	}
	stop.Store(true)
	wg.Wait()
}

// The work of one Next is bounded also where nothing matches, and a wildcard in the middle does not look at every topic.
func TestNextIsBounded(t *testing.T) {
	s := New(Limits{})
	for i := range 300 {
		for j := range 100 {
			set(t, s, kept(fmt.Sprintf("site/%d/dev/%d", i, j), "x", 0))
		}
	}
	c, turns := s.Scan([]byte("site/+/dev/+/none")), 0
	for !c.Next(0, 16, func(*event.Kept) bool { t.Error("matched"); return true }) {
		turns++
	}
	if turns < 30000/(16*cursorLooks+2*cursorChunk) {
		t.Errorf("%d topics in %d turns", s.Len(), turns)
	}
	c, turns = s.Scan([]byte("site/+/dev/7")), 1
	n := 0
	for !c.Next(0, 300, func(*event.Kept) bool { n++; return true }) {
		turns++
	}
	if n != 300 || turns > 2 {
		t.Errorf("%d of 300 in %d turns", n, turns)
	}
}

func BenchmarkSet(b *testing.B) {
	s := New(Limits{})
	ks := make([]*event.Kept, 200_000)
	for i, j := range rand.New(rand.NewPCG(1, 1)).Perm(len(ks)) {
		ks[i] = kept(fmt.Sprintf("site/%d/device-%d/state", j%1000, j), "x", 0)
	}
	b.Run("new", func(b *testing.B) {
		i := 0
		for b.Loop() {
			if i == len(ks) {
				b.StopTimer()
				s, i = New(Limits{}), 0
				b.StartTimer()
			}
			_ = s.Set(ks[i]) // no limits: no error
			i++
		}
	})
	for _, k := range ks {
		_ = s.Set(k) // no limits: no error
	}
	b.Run("replace", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			_ = s.Set(ks[i%len(ks)]) // no limits: no error
			i++
		}
	})
	b.Run("next256", func(b *testing.B) {
		b.ReportAllocs()
		c := s.Scan([]byte("#"))
		for b.Loop() {
			if c.Next(0, 256, func(*event.Kept) bool { return true }) {
				c = s.Scan([]byte("#"))
			}
		}
	})
}
