package route

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
)

// indexModel is the index as a map. Owned by its test.
type indexModel map[string]map[uint32]Sub

func (m indexModel) change(c Change) {
	f := string(c.Filter)
	if c.Delete {
		delete(m[f], c.Sub.Taker())
		if len(m[f]) == 0 {
			delete(m, f)
		}
		return
	}
	if m[f] == nil {
		m[f] = map[uint32]Sub{}
	}
	m[f][c.Sub.Taker()] = c.Sub
}

func (m indexModel) match(topic []byte) []Sub {
	var subs []Sub
	for f, s := range m {
		if event.Match([]byte(f), topic) {
			for _, x := range s {
				subs = append(subs, x)
			}
		}
	}
	slices.Sort(subs)
	return subs
}

// applyNow makes changes the way Run does, on the caller's goroutine.
func (x *Index) applyNow(t testing.TB, cs ...Change) {
	t.Helper()
	if !x.Apply(cs, nil) {
		t.Fatal("queue full")
	}
	var q changeQueue
	x.mu.Lock()
	x.queue, q = q, x.queue
	x.mu.Unlock()
	x.work(&q)
}

func checkMatch(t *testing.T, x *Index, m indexModel, topic []byte) {
	t.Helper()
	got := x.Match(topic, []Sub{7})
	if got[0] != 7 {
		t.Fatal("Match wrote over what dst held")
	}
	got = got[1:]
	slices.Sort(got)
	if want := m.match(topic); !slices.Equal(got, want) {
		t.Fatalf("Match(%q) = %x, want %x", topic, got, want)
	}
}

// checkEmpty says that nothing is left of what was inserted.
func checkEmpty(t *testing.T, x *Index) {
	t.Helper()
	for range 3 {
		x.publish(false)
	}
	s := x.Stats()
	if s.Filters != 0 || s.Subs != 0 || s.Nodes != 0 || s.Edges != 2 || s.Limbo != 0 || x.trie.root.Load() != rootNode<<valNodeShift {
		t.Fatalf("left over: %+v, root %x", s, x.trie.root.Load())
	}
	for i, n := range x.trie.nodes {
		if n.kids != 0 {
			t.Fatalf("node %d counts %d children", i, n.kids)
		}
	}
}

func TestIndexMatches_4_7(t *testing.T) {
	filters := []string{
		"a", "a/b", "a/+", "a/#", "#", "+", "+/b", "/", "/+", "+/", "+/+", "//", "a//b", "a/+/b", "+/#", "$SYS/#", "$SYS/+", "$x", "a/b/#", "+/+/#",
		"1234567", "1234567/12345678/123456789/123456/12345", "seven77/eight888/fourteen_bytes/fifteen___bytes", strings.Repeat("long", 5000) + "/+",
		strings.Repeat("x", 62), strings.Repeat("x", 63), strings.Repeat("+/", 100) + "#", "ü/日本",
	}
	topics := []string{
		"a", "a/b", "a/", "/", "//", "/a", "b", "a//b", "a/x/b", "$SYS", "$SYS/a", "$SYS/a/b", "$x", "$y", "a/b/c/d", "a/$x", "1234567", "12345678", "123456",
		"1234567/12345678/123456789/123456/12345", "seven77/eight888/fourteen_bytes/fifteen___bytes", "seven77/eight888/fourteen_bytes/fifteen___byteS",
		strings.Repeat("long", 5000) + "/x", strings.Repeat("x", 62), strings.Repeat("x", 63), strings.Repeat("x", 64), strings.Repeat("z/", 100), "ü/日本",
	}
	x, m := NewIndex(IndexOptions{}), indexModel{}
	for i, f := range filters {
		c := Change{Filter: []byte(f), Sub: MakeSub(uint32(i), 1, false, false, uint32(i))}
		m.change(c)
		x.applyNow(t, c)
	}
	if s := x.Stats(); s.Filters != len(filters) || s.Subs != len(filters) || s.Bytes <= 0 {
		t.Fatalf("%+v", s)
	}
	for _, topic := range topics {
		checkMatch(t, x, m, []byte(topic))
	}
	for i, f := range filters {
		c := Change{Filter: []byte(f), Sub: MakeSub(uint32(i), 0, false, false, 0), Delete: true}
		m.change(c)
		x.applyNow(t, c)
		for _, topic := range topics {
			checkMatch(t, x, m, []byte(topic))
		}
	}
	checkEmpty(t, x)
}

func TestIndexReplacesAndIgnores(t *testing.T) {
	x := NewIndex(IndexOptions{})
	g := x.Generation()
	same := func(what string) {
		t.Helper()
		if x.Generation() != g {
			t.Errorf("%s changed the generation", what)
		}
		g = x.Generation()
	}
	differs := func(what string) {
		t.Helper()
		if x.Generation() == g {
			t.Errorf("%s left the generation", what)
		}
		g = x.Generation()
	}
	f := []byte("a/+")
	x.applyNow(t, Change{Filter: f, Sub: MakeSub(0, 0, false, false, 0)})
	differs("an insert")
	x.applyNow(t, Change{Filter: f, Sub: MakeSub(0, 0, false, false, 0)})
	same("the same insert")
	x.applyNow(t, Change{Filter: f, Sub: MakeSub(0, 2, true, true, 9)})
	differs("a replacement")
	if got := x.Match([]byte("a/b"), nil); len(got) != 1 || got[0] != MakeSub(0, 2, true, true, 9) {
		t.Fatalf("%x", got)
	}
	x.applyNow(t, Change{Filter: f, Sub: MakeSub(1, 2, true, true, 9), Delete: true}, Change{Filter: []byte("a/b"), Sub: MakeSub(0, 0, false, false, 0), Delete: true},
		Change{Filter: []byte("a"), Sub: 0, Delete: true}, Change{Filter: []byte("a/+/c"), Sub: 0, Delete: true})
	same("deleting what is not there")
	x.applyNow(t, Change{Filter: nil, Sub: 1 << 32}, Change{Filter: make([]byte, event.MaxTopic+1), Sub: 1 << 32}, Change{Filter: f, Sub: ^Sub(0)})
	same("what is refused")
	if n := x.Stats().Refused; n != 3 {
		t.Errorf("%d refused", n)
	}
	x.applyNow(t, Change{Filter: f, Sub: 3, Delete: true})
	differs("a deletion")
	checkEmpty(t, x)
}

// genFilters makes filters and topics that meet often.
func genLevels(r *rand.Rand, words []string, deep int) string {
	n := 1 + r.IntN(deep)
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(words[r.IntN(len(words))])
	}
	return b.String()
}

var (
	topicWords  = []string{"a", "b", "", "$c", "device-0001", "sevenby", "eightbyt"}
	filterWords = append([]string{"+", "+", "+"}, topicWords...)
)

func genFilter(r *rand.Rand) string {
	switch f := genLevels(r, filterWords, 5); {
	case r.IntN(4) == 0:
		return strings.TrimSuffix(f, "/") + "/#"
	case f == "" || r.IntN(50) == 0:
		return "#"
	default:
		return f
	}
}

func genTopic(r *rand.Rand) []byte {
	if t := genLevels(r, topicWords, 6); t != "" {
		return []byte(t)
	}
	return []byte("/")
}

func TestIndexAgainstModel(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		x, m := NewIndex(IndexOptions{}), indexModel{}
		takers := 1 + r.IntN(60)
		for round := range 30 {
			grow := 3 + round%5 // insertions out of ten
			var cs []Change
			for range r.IntN(200) {
				c := Change{Filter: []byte(genFilter(r)), Sub: MakeSub(uint32(r.IntN(takers)), byte(r.IntN(3)), false, false, uint32(r.IntN(9))), Delete: r.IntN(10) >= grow}
				if c.Delete && r.IntN(4) > 0 { // one that is there
					for f, s := range m {
						for _, v := range s {
							c.Filter, c.Sub = []byte(f), v
							break
						}
						break
					}
				}
				m.change(c)
				cs = append(cs, c)
			}
			x.applyNow(t, cs...)
			for range 60 {
				checkMatch(t, x, m, genTopic(r))
			}
			n := 0
			for _, s := range m {
				n += len(s)
			}
			if s := x.Stats(); s.Filters != len(m) || s.Subs != n {
				t.Fatalf("seed %d: %+v, want %d filters, %d subscribers", seed, s, len(m), n)
			}
		}
		for f, s := range m {
			for k := range s {
				x.applyNow(t, Change{Filter: []byte(f), Sub: MakeSub(k, 0, false, false, 0), Delete: true})
			}
		}
		checkEmpty(t, x)
	}
}

// A filter with very many subscribers grows and shrinks, in random order and with replacements.
func TestIndexManySubscribersOfOneFilter(t *testing.T) {
	const n = 100_000
	x := NewIndex(IndexOptions{})
	f := []byte("news/+")
	r := rand.New(rand.NewPCG(1, 2))
	order := r.Perm(n)
	begin := time.Now()
	var cs []Change
	for _, k := range order {
		cs = append(cs, Change{Filter: f, Sub: MakeSub(uint32(k), 0, false, false, 0)})
		if k%10 == 0 {
			cs = append(cs, Change{Filter: f, Sub: MakeSub(uint32(k), 1, false, false, 0)})
		}
	}
	x.applyNow(t, cs...)
	check := func(from int) {
		t.Helper()
		got := x.Match([]byte("news/today"), nil)
		slices.Sort(got)
		if len(got) != n-from {
			t.Fatalf("%d subscribers", len(got))
		}
		want := slices.Clone(order[from:])
		slices.Sort(want)
		for i, s := range got {
			if int(s.Taker()) != want[i] || (s.QoS() == 1) != (want[i]%10 == 0) {
				t.Fatalf("place %d: %x", i, s)
			}
		}
	}
	check(0)
	if b := x.Stats().Bytes / n; b > 48 {
		t.Errorf("%d bytes each", b)
	}
	for i, k := range order {
		x.applyNow(t, Change{Filter: f, Sub: MakeSub(uint32(k), 0, false, false, 0), Delete: true})
		if i%9973 == 0 || i > n-50 {
			check(i + 1)
		}
	}
	if d := time.Since(begin); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	checkEmpty(t, x)
}

// Filters and topics with very many levels neither recurse nor multiply the work.
func TestIndexHostileDepth(t *testing.T) {
	x, m := NewIndex(IndexOptions{}), indexModel{}
	deep := []string{
		strings.Repeat("+/", 10000) + "+", strings.Repeat("a/", 32766) + "#", strings.Repeat("/", 5000),
	}
	for i := range 8 { // every way to write up to seven levels of a
		for j := range 1 << i {
			f := ""
			for k := range i {
				f += string("a+"[j>>k&1]) + "/"
			}
			deep = append(deep, f+"#")
		}
	}
	for i, f := range deep {
		c := Change{Filter: []byte(f), Sub: MakeSub(uint32(i), 0, false, false, 0)}
		m.change(c)
		x.applyNow(t, c)
	}
	for _, topic := range []string{strings.Repeat("a/", 32767) + "a", strings.Repeat("a/", 5), strings.Repeat("b", 65535)} {
		begin := time.Now()
		checkMatch(t, x, m, []byte(topic))
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("took %v", d)
		}
	}
	for i, f := range deep {
		x.applyNow(t, Change{Filter: []byte(f), Sub: MakeSub(uint32(i), 0, false, false, 0), Delete: true})
	}
	checkEmpty(t, x)
}

// Readers run beside a writer that begins an epoch with every change. Filters that stay are always seen, exactly once;
// those that never were are never seen.
func TestIndexConcurrentReaders(t *testing.T) {
	x := NewIndex(IndexOptions{Interval: -1})
	r := rand.New(rand.NewPCG(3, 4))
	stay := indexModel{}
	for i := range 300 {
		c := Change{Filter: []byte(genFilter(r)), Sub: MakeSub(1<<20|uint32(i), 0, false, false, 0)}
		stay.change(c)
		x.applyNow(t, c)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for reader := range uint64(3) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(reader, 5))
			var subs []Sub
			for !stop.Load() {
				topic := genTopic(r)
				subs = x.Match(topic, subs[:0])
				var seen []Sub
				for _, s := range subs {
					if s.Taker() >= 1<<20 {
						seen = append(seen, s)
					} else if s.ID() != s.Taker()%1000+1 {
						t.Errorf("Match(%q): %x was never there", topic, s)
						stop.Store(true)
					}
				}
				slices.Sort(seen)
				if want := stay.match(topic); !slices.Equal(seen, want) {
					t.Errorf("Match(%q) = %x, want %x", topic, seen, want)
					stop.Store(true)
				}
			}
		})
	}
	m := indexModel{}
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end) && !stop.Load(); {
		for range 20 {
			k := uint32(r.IntN(2000))
			c := Change{Filter: []byte(genFilter(r)), Sub: MakeSub(k, 0, false, false, k%1000+1), Delete: r.IntN(2) == 0}
			m.change(c)
			x.applyNow(t, c)
		}
		for f, s := range m {
			for k := range s {
				x.applyNow(t, Change{Filter: []byte(f), Sub: MakeSub(k, 0, false, false, 0), Delete: true})
			}
			if r.IntN(8) > 0 {
				delete(m, f)
				break
			}
			delete(m, f)
		}
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%+v", x.Stats())
}

// Without numbers for blocks or nodes inserts are refused and leave nothing half done.
func TestIndexOutOfNumbers(t *testing.T) {
	refused := uint64(0)
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 6))
		x, m := NewIndex(IndexOptions{}), indexModel{}
		for i := range 400 {
			f := genFilter(r)
			if r.IntN(3) > 0 {
				f += "/" + strings.Repeat("n", r.IntN(40)) // new labels of many sizes
			}
			c := Change{Filter: []byte(f), Sub: MakeSub(uint32(r.IntN(20)), 1, false, false, uint32(r.IntN(2))<<27)}
			if !event.ValidFilter(c.Filter) {
				continue
			}
			if i == 200 {
				x.trie.maxNode = len(x.trie.nodes) + r.IntN(5)
				for k := range x.trie.arena.slabs {
					x.trie.arena.slabs[k].next = blockMax + 1 // what is freed can still be used
				}
			}
			if c.Delete = i > 300 && r.IntN(2) == 0; c.Delete {
				for f, s := range m {
					for k := range s {
						c.Filter, c.Sub = []byte(f), MakeSub(k, 0, false, false, 0)
					}
					break
				}
			}
			before := x.Stats().Refused
			x.applyNow(t, c)
			if x.Stats().Refused == before {
				m.change(c)
			} else if i < 200 || c.Delete {
				t.Fatal("refused although there was room")
			}
			checkMatch(t, x, m, genTopic(r))
		}
		refused += x.Stats().Refused
		for f, s := range m {
			for k := range s {
				x.applyNow(t, Change{Filter: []byte(f), Sub: MakeSub(k, 0, false, false, 0), Delete: true})
			}
		}
		checkEmpty(t, x)
	}
	if refused < 100 {
		t.Fatalf("only %d changes were refused", refused)
	}
}

// What is freed is not handed out again before two epochs have begun.
func TestIndexLimbo(t *testing.T) {
	x := NewIndex(IndexOptions{})
	tr := &x.trie
	block, _ := tr.arena.alloc(3)
	node, _ := tr.newNode(1)
	tr.arena.release(block)
	tr.limbo[0] = append(tr.limbo[0], node)
	for epoch := range 3 {
		b, _ := tr.arena.alloc(3)
		n, _ := tr.newNode(2)
		if again := epoch == 2; (b == block) != again || (n == node) != again {
			t.Fatalf("epoch %d: block %x after %x, node %d after %d", epoch, b, block, n, node)
		}
		tr.advance()
	}
}

// While a reader is pinned no epoch begins.
func TestIndexPin(t *testing.T) {
	x := NewIndex(IndexOptions{})
	x.pins.Add(1)
	before := x.trie.arena.epoch.Load()
	change := func() {
		x.applyNow(t, Change{Filter: []byte("b/c"), Sub: 0}, Change{Filter: []byte("b/c"), Sub: 0, Delete: true})
	}
	change()
	if x.trie.arena.epoch.Load() != before || x.Stats().Limbo == 0 {
		t.Fatal("an epoch began")
	}
	x.pins.Add(-1)
	change()
	if x.trie.arena.epoch.Load() == before {
		t.Fatal("no epoch began")
	}
}

// A reader through whose match two epochs begin reads again.
func TestIndexReadsAgainAfterTwoEpochs(t *testing.T) {
	x := NewIndex(IndexOptions{})
	f := []byte(strings.Repeat("a/", 30000) + "#")
	x.applyNow(t, Change{Filter: f, Sub: MakeSub(1, 0, false, false, 0)})
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			x.applyNow(t, Change{Filter: []byte("b/c"), Sub: 0}, Change{Filter: []byte("b/c"), Sub: 0, Delete: true})
		}
	})
	begin := time.Now()
	for x.Stats().Retries == 0 && time.Since(begin) < 10*time.Second {
		if n := len(x.Match(f[:len(f)-2], nil)); n != 1 {
			t.Errorf("%d matches", n)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	if x.Stats().Retries == 0 {
		t.Fatal("never read again")
	}
	if x.pins.Load() != 0 {
		t.Fatal("a pin was left")
	}
}

// The same filters that come and go take no more memory the fiftieth time.
func TestIndexChurnHoldsMemory(t *testing.T) {
	x := NewIndex(IndexOptions{})
	r := rand.New(rand.NewPCG(7, 8))
	var after int64
	for round := range 50 {
		for _, remove := range []bool{false, true} {
			for _, i := range r.Perm(200) {
				f := fmt.Appendf(nil, "site/%d/device-with-a-name-%d/+", i%7, i)
				x.applyNow(t, Change{Filter: f, Sub: MakeSub(uint32(i), 0, false, false, 0), Delete: remove},
					Change{Filter: []byte("everyone/#"), Sub: MakeSub(uint32(i), 0, false, false, 0), Delete: remove},
					Change{Filter: fmt.Appendf(nil, "group/%d", i%40), Sub: MakeSub(uint32(i), 0, false, false, 0), Delete: remove})
			}
		}
		if b := x.Stats().Bytes; round == 20 {
			after = b
		} else if round > 20 && b > after*11/10 {
			t.Fatalf("round %d: %d bytes, after the first rounds %d", round, b, after)
		}
	}
	checkEmpty(t, x)
}

func TestIndexRun(t *testing.T) {
	x := NewIndex(IndexOptions{Queue: 1000})
	var order []int
	done := func(i int) func() { return func() { order = append(order, i) } }
	if !x.Apply([]Change{{Filter: []byte("a"), Sub: 1 << 32}}, done(0)) || !x.Apply(nil, done(1)) {
		t.Fatal("refused")
	}
	if x.Match([]byte("a"), nil) != nil {
		t.Fatal("seen before Run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := x.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	var many []Change
	for i := range 1000 {
		many = append(many, Change{Filter: fmt.Appendf(nil, "b/%d", i), Sub: 1 << 32})
	}
	seen := make(chan int, 2)
	f := []byte("b/+") // Apply copies: it may be written afterwards
	for !x.Apply([]Change{{Filter: f, Sub: 2 << 32}}, func() { seen <- len(x.Match([]byte("b/7"), nil)) }) {
		time.Sleep(time.Millisecond)
	}
	f[0] = 'x'
	if n := <-seen; n != 1 {
		t.Errorf("%d matches when done was called", n)
	}
	for !x.Apply(many, func() { seen <- len(x.Match([]byte("b/999"), nil)) }) {
		time.Sleep(time.Millisecond)
	}
	if n := <-seen; n != 2 {
		t.Errorf("%d matches when done was called", n)
	}
	cancel()
	wg.Wait()
	if x.Apply(many, nil) {
		t.Error("taken after the end")
	}
	if !slices.Equal(order, []int{0, 1}) {
		t.Errorf("done in the order %v", order)
	}
}

func TestIndexQueueIsBounded(t *testing.T) {
	x := NewIndex(IndexOptions{Queue: 3, QueueBytes: 100})
	c := []Change{{Filter: []byte("a"), Sub: 1 << 32}, {Filter: []byte("b"), Sub: 1 << 32}}
	del := []Change{{Filter: []byte("a"), Sub: 1 << 32, Delete: true}, {Filter: []byte("b"), Sub: 1 << 32, Delete: true}}
	if !x.Apply(c, nil) || x.Apply(c, nil) || !x.Apply(del, nil) || x.Apply(c[:1], nil) {
		t.Fatal("bound of changes")
	}
	if s := x.Stats(); s.Queued != 4 || s.Full != 2 {
		t.Fatalf("%+v", s)
	}
	y := NewIndex(IndexOptions{QueueBytes: 100})
	if y.Apply([]Change{{Filter: make([]byte, 101), Sub: 1 << 32}}, nil) || !y.Apply([]Change{{Filter: make([]byte, 100), Sub: 1 << 32}}, nil) {
		t.Fatal("bound of bytes")
	}
}

func TestIndexMatchDoesNotAllocate(t *testing.T) {
	x := NewIndex(IndexOptions{})
	for i, f := range []string{"site/+/dev/#", "site/berlin/dev/7", "+/+/+/+", "site/berlin/+/7", "#"} {
		x.applyNow(t, Change{Filter: []byte(f), Sub: MakeSub(uint32(i), 0, false, false, 0)})
	}
	topic, dst := []byte("site/berlin/dev/7"), make([]Sub, 0, 10)
	if n := testing.AllocsPerRun(100, func() {
		if dst = x.Match(topic, dst[:0]); len(dst) != 5 || x.Generation() == 0 {
			t.Fatal(len(dst))
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// FuzzIndex reads a script: each byte pair chooses an operation and a filter or topic.
func FuzzIndex(f *testing.F) {
	f.Add([]byte("\x00\x01\x10\x02\x20\x03\xf0\x01\x80\x01\xf0\x02"), "a/b")
	f.Add([]byte("\x01\x11\x02\x12\x82\x12\xf1\x11"), "+/b")
	f.Add([]byte("\x01\x01\x81\x01\x02\x01\x82\x01\x03\x01"), "a/#")
	f.Fuzz(func(t *testing.T, script []byte, extra string) {
		words := []string{"a", "b", "", "+", "sevenby", "$x", "a-long-level-of-more-than-one-word", "#"}
		x, m := NewIndex(IndexOptions{}), indexModel{}
		for len(script) >= 3 {
			op, a, b := script[0], script[1], script[2]
			script = script[3:]
			s := words[a&7] + "/" + words[a>>3&7] + "/" + words[b&7]
			switch a >> 6 {
			case 0:
				s = words[a&7]
			case 1:
				s = words[a&7] + "/" + words[a>>3&7]
			case 2:
				s = extra
			}
			if event.ValidTopic([]byte(s)) {
				checkMatch(t, x, m, []byte(s))
			}
			if event.ValidFilter([]byte(s)) {
				c := Change{Filter: []byte(s), Sub: MakeSub(uint32(b>>3), op&3%3, false, false, uint32(b)), Delete: op >= 0x80}
				m.change(c)
				x.applyNow(t, c)
			}
		}
		for f, s := range m {
			for k := range s {
				x.applyNow(t, Change{Filter: []byte(f), Sub: MakeSub(k, 0, false, false, 0), Delete: true})
			}
		}
		checkEmpty(t, x)
	})
}

// A subscription to an index that has nothing else to do is there when Apply returns: who publishes next meets it.
func TestFewChangesAreMadeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := NewIndex(IndexOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = x.Run(ctx) })
		synctest.Wait()
		var told atomic.Int32
		insert := func(n int, taker uint32) {
			var cs []Change
			for i := range n {
				cs = append(cs, Change{Filter: fmt.Appendf(nil, "a/%d", i), Sub: MakeSub(taker, 1, false, false, 0)})
			}
			if !x.Apply(cs, func() { told.Add(1) }) {
				t.Fatal("refused")
			}
		}
		insert(1, 1)
		if got := x.Match([]byte("a/0"), nil); len(got) != 1 || told.Load() != 1 {
			t.Fatalf("after Apply: %v, told %d times", got, told.Load())
		}
		insert(1, 2) // too soon after the one before: others remember what they matched
		if got := x.Match([]byte("a/0"), nil); len(got) != 1 || told.Load() != 1 {
			t.Fatalf("within the interval: %v, told %d times", got, told.Load())
		}
		time.Sleep(time.Millisecond)
		if got := x.Match([]byte("a/0"), nil); len(got) != 2 || told.Load() != 2 {
			t.Fatalf("after the interval: %v, told %d times", got, told.Load())
		}
		time.Sleep(time.Millisecond)
		insert(atOnce+1, 3) // many: not on the caller's time
		if got := x.Match([]byte("a/8"), nil); len(got) != 0 {
			t.Fatalf("many at once: %v", got)
		}
		synctest.Wait()
		if got := x.Match([]byte("a/8"), nil); len(got) != 1 || told.Load() != 3 {
			t.Fatalf("many, after a moment: %v, told %d times", got, told.Load())
		}
		cancel()
		wg.Wait()
		if x.Apply([]Change{{Filter: []byte("b"), Sub: MakeSub(4, 0, false, false, 0)}}, nil) {
			t.Error("taken after the end")
		}
	})
}
