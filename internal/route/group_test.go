package route

import (
	"fmt"
	"sync"
	"testing"

	"github.com/windrose-edc/windrose/internal/event"
)

// groupOf makes a group with members on the loops 0, 1, 2, ...
func groupOf(t *testing.T, b Balance, members int) (*Walker, *Groups, []*Member) {
	t.Helper()
	gs := newGroups()
	gs.SetBalance(b)
	w := &Walker{net: &Net{groups: gs}}
	var ms []*Member
	for i := range members {
		l := &Load{}
		l.Window.Store(2)
		m := gs.Join([]byte("$share/g/t/#"), MakeSub(Taker(i, 1), 1, false, false, 0), l)
		if m == nil {
			t.Fatal("no room")
		}
		ms = append(ms, m)
	}
	return w, gs, ms
}

func eventOf(client, topic string) *event.Event {
	return &event.Event{Topic: []byte(topic), QoS: 1, From: &event.Origin{Client: client}}
}

// In turn, but who has a full window is passed over while others have not.
func TestGroupRoundRobin(t *testing.T) {
	w, _, ms := groupOf(t, RoundRobin, 3)
	g := ms[0].Group()
	var got []int
	for range 6 {
		got = append(got, w.pick(g, eventOf("p", "t/x")).Sub().Loop())
	}
	if fmt.Sprint(got) != "[0 1 2 0 1 2]" {
		t.Errorf("got %v", got)
	}
	ms[1].load.Open.Store(2)
	for range 6 {
		if w.pick(g, eventOf("p", "t/x")) == ms[1] {
			t.Error("the busy member is given more")
		}
	}
	for _, m := range ms {
		m.load.Open.Store(5)
	}
	seen := map[*Member]int{}
	for range 6 {
		seen[w.pick(g, eventOf("p", "t/x"))]++
	}
	if len(seen) != 3 {
		t.Errorf("when all are busy: %v", seen)
	}
}

// The member with the fewest open events, also where there are more members than are looked at.
func TestGroupLeastInFlight(t *testing.T) {
	w, _, ms := groupOf(t, LeastInFlight, 100)
	for i, m := range ms {
		m.load.Open.Store(int32(1 + i%7))
	}
	for range 200 {
		if m := w.pick(ms[0].Group(), eventOf("p", "t/x")); m.load.Open.Load() != 1 {
			t.Fatalf("a member with %d open events is chosen", m.load.Open.Load())
		}
	}
}

// By hash a topic, or a publisher, stays with its member; when one leaves only what it had moves.
func TestGroupHash(t *testing.T) {
	for _, b := range []Balance{HashTopic, HashPublisher} {
		t.Run(b.String(), func(t *testing.T) {
			w, gs, ms := groupOf(t, b, 5)
			g := ms[0].Group()
			at := func(i int) *event.Event {
				if b == HashTopic {
					return eventOf("p", fmt.Sprint("t/", i))
				}
				return eventOf(fmt.Sprint("p", i), "t/x")
			}
			first := map[int]*Member{}
			share := map[*Member]int{}
			for i := range 1000 {
				first[i] = w.pick(g, at(i))
				share[first[i]]++
			}
			for _, m := range ms {
				if share[m] < 100 {
					t.Errorf("a member has %d of 1000", share[m])
				}
			}
			gs.Leave(ms[2])
			for i := range 1000 {
				switch m := w.pick(g, at(i)); {
				case m == ms[2]:
					t.Fatal("who left is chosen")
				case first[i] != ms[2] && m != first[i]:
					t.Fatalf("%d moved though its member stayed", i)
				}
			}
		})
	}
}

// A publisher stays with its member also when others come; when the member goes it gets another one and stays there.
func TestGroupSticky(t *testing.T) {
	w, gs, ms := groupOf(t, Sticky, 2)
	g := ms[0].Group()
	const n = 500
	first := map[int]*Member{}
	at := func(i int) *Member { return w.pick(g, eventOf(fmt.Sprint("p", i), "t/x")) }
	for i := range n {
		first[i] = at(i)
	}
	for i := range 4 {
		gs.Join([]byte("$share/g/t/#"), MakeSub(Taker(10+i, 1), 1, false, false, 0), &Load{})
	}
	for i := range n {
		if m := at(i); m != first[i] {
			t.Fatalf("publisher %d moved because others came", i)
		}
	}
	gs.Online(ms[0], false)
	second := map[int]*Member{}
	for i := range n {
		second[i] = at(i)
		if second[i] == ms[0] || first[i] != ms[0] && second[i] != first[i] {
			t.Fatalf("publisher %d is with the wrong member", i)
		}
	}
	gs.Online(ms[0], true)
	for i := range n {
		if m := at(i); m != second[i] {
			t.Fatalf("publisher %d moved back", i)
		}
	}
}

// Groups are found by number without a lock while members come and go; a number is used again only after Retire.
func TestGroupsAreChangedWhileTheyAreRead(t *testing.T) {
	gs := newGroups()
	w := []*Walker{{net: &Net{groups: gs}}, {net: &Net{groups: gs}}}
	anchor := gs.Join([]byte("$share/g/t"), MakeSub(Taker(9, 1), 1, false, false, 0), &Load{})
	g := anchor.Group()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i, x := range w {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				gs.SetBalance(Balance(n % 5))
				ev := eventOf(fmt.Sprint("p", n%50), "t")
				m := x.pick(g, ev)
				if m == nil || gs.at(Sub(uint64(g.Taker())<<32).Slot()) != g {
					t.Error("the group is lost", i)
					return
				}
				s := m.Sub()
				for tries := 1; ; tries++ {
					var ok bool
					if s, ok = g.after(s, tries, ev); !ok {
						break
					}
				}
			}
		})
	}
	var change sync.WaitGroup
	for i := range 2 {
		change.Go(func() {
			for n := range 2000 {
				m := gs.Join([]byte("$share/g/t"), MakeSub(Taker(i, n+1), 1, false, false, 0), &Load{})
				gs.Online(m, false)
				gs.Online(m, true)
				m.Set(MakeSub(Taker(i, n+1), 2, false, false, 7))
				if gs.Leave(m) {
					t.Error("the group ended with a member in it")
				}
			}
		})
	}
	change.Wait()
	close(stop)
	wg.Wait()
	if !gs.Leave(anchor) || gs.Len() != 0 || gs.Find("$share/g/t") != nil {
		t.Error("the last member did not end the group")
	}
	other := gs.Join([]byte("$share/g/t"), MakeSub(Taker(9, 1), 1, false, false, 0), &Load{})
	if other.Group().Taker() == g.Taker() {
		t.Error("a number is used again while loops may name it")
	}
	gs.Retire(g.Taker())
	if third := gs.Join([]byte("$share/h/t"), MakeSub(Taker(9, 1), 1, false, false, 0), &Load{}); third.Group().Taker() != g.Taker() {
		t.Error("a free number is not used")
	}
	for _, bad := range []string{"$share/g", "$share//t", "t", "$share/g/#/x"} {
		if gs.Join([]byte(bad), 1<<32, &Load{}) != nil {
			t.Errorf("%s taken", bad)
		}
	}
}
