package topk

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// The guarantees of the paper: an estimate is never below the truth, never above it by more than its error, the error is at most
// total/size, and a key with more than total/size is there.
func TestSketchKeepsItsPromises(t *testing.T) {
	for _, size := range []int{1, 2, 10, 100} {
		for seed := range uint64(10) {
			r := rand.New(rand.NewPCG(seed, 1))
			z := rand.NewZipf(r, 1.1+r.Float64(), 1, 2000)
			s, truth := New(size), map[string]uint64{}
			for range 20_000 {
				k, n := fmt.Sprint("key/", z.Uint64()), 1+r.Uint64N(3)
				s.Add([]byte(k), n)
				truth[k] += n
			}
			listed := map[string]bool{}
			list := s.List(size)
			for i, x := range list {
				listed[x.Key] = true
				if x.Count < truth[x.Key] || x.Count-x.Error > truth[x.Key] || x.Error > s.Total()/uint64(size) {
					t.Fatalf("size %d: %+v, there were %d", size, x, truth[x.Key])
				}
				if i > 0 && x.Count > list[i-1].Count {
					t.Fatal("not in order")
				}
			}
			for k, n := range truth {
				if n > s.Total()/uint64(size) && !listed[k] {
					t.Fatalf("size %d: %q is missing, it has %d of %d", size, k, n, s.Total())
				}
			}
			if len(list) > size {
				t.Fatalf("%d keys", len(list))
			}
		}
	}
}

// Keys of any kind and length are no danger, and a sketch can be used again.
func TestSketchKeys(t *testing.T) {
	s := New(3)
	long := strings.Repeat("x", MaxKey)
	for range 2 {
		for _, k := range []string{"", "a", "\x00", long + "1", long + "2"} {
			s.Add([]byte(k), 5)
		}
		s.Add([]byte(long+"3"), 100)
		if l := s.List(1); len(l) != 1 || l[0].Key != long || l[0].Count < 110 || s.Total() != 125 {
			t.Errorf("%.60v, total %d", l, s.Total())
		}
		s.Reset()
		if len(s.List(9)) != 0 || s.Total() != 0 {
			t.Error("not empty")
		}
	}
}

func TestMerge(t *testing.T) {
	got := Merge(2, []Item{{"a", 5, 1}, {"b", 4, 0}}, nil, []Item{{"c", 6, 2}, {"b", 3, 1}})
	if fmt.Sprint(got) != "[{b 7 1} {c 6 2}]" {
		t.Error(got)
	}
}

// A sample is true to the stream also where its keys come in step, and what is over is forgotten.
func TestRecent(t *testing.T) {
	span := int64(30 * time.Second)
	r := NewRecent(20, 16, span)
	if l, s := r.List(5, 1); l != nil || s != 0 {
		t.Error(l, s)
	}
	now := int64(1_700_000_000_000_000_000)
	const n = 160_000
	for i := range n {
		if r.Due() {
			r.AddString(fmt.Sprint("client ", i%16), now) // 16 publishers in turn
		}
	}
	list, _ := r.List(20, now)
	var sum uint64
	for _, x := range list {
		if sum += x.Count; x.Count < n/16/2 || x.Count > n/16*2 {
			t.Errorf("%+v, there were %d", x, n/16)
		}
	}
	if len(list) != 16 || sum < n*9/10 || sum > n*11/10 {
		t.Errorf("%d keys, %d in all", len(list), sum)
	}
	now += span
	for range 1000 {
		if r.Due() {
			r.AddString("late", now)
		}
	}
	if list, s := r.List(1, now+span/2); len(list) != 1 || list[0].Key == "late" || s != span+span/2 {
		t.Errorf("%v over %d", list, s)
	}
	if list, s := r.List(9, now+span); len(list) != 1 || list[0].Key != "late" || s != span {
		t.Errorf("%v over %d", list, s)
	}
	if list, _ := r.List(9, now+10*span); len(list) != 0 {
		t.Error(list)
	}
}

func TestAddAllocatesNothing(t *testing.T) {
	s, r := New(64), NewRecent(64, 1, int64(time.Hour))
	keys := make([][]byte, 1000)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "site/berlin/pump-%d/state", i)
	}
	i := 0
	if a := testing.AllocsPerRun(5000, func() {
		i++
		s.Add(keys[i*7919%1000], 1)
		if r.Due() {
			r.Add(keys[i*7919%1000], int64(i))
		}
	}); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

// FuzzSketch adds keys of one or two bytes and holds the sketch to its promises.
func FuzzSketch(f *testing.F) {
	f.Add([]byte("abcabca"), byte(2))
	f.Fuzz(func(t *testing.T, b []byte, size byte) {
		s, truth := New(int(size%8)), map[string]uint64{}
		for i := range b {
			k := b[i:min(i+1+int(b[i]&1), len(b))]
			s.Add(k, uint64(b[i]>>6)+1)
			truth[string(k)] += uint64(b[i]>>6) + 1
		}
		var sum uint64
		for _, x := range s.List(8) {
			sum += x.Count
			if x.Count < truth[x.Key] || x.Count-x.Error > truth[x.Key] {
				t.Fatalf("%+v, there were %d", x, truth[x.Key])
			}
		}
		if sum != s.Total() {
			t.Fatalf("%d of %d", sum, s.Total())
		}
	})
}

// BenchmarkPublishIsRanked is what an event pays: 15 of 16 are passed over.
func BenchmarkPublishIsRanked(b *testing.B) {
	r := NewRecent(128, 16, int64(time.Hour))
	keys := make([][]byte, 1<<16)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "site/berlin/pump-%d/state", i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if r.Due() {
			r.Add(keys[i&(1<<16-1)], 1)
		}
		i += 7919
	}
}
