//go:build linux && !portable

package loop

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// driving waits until so many loops run on a thread of their own. Loops that sleep stay as they are, so it has them turn.
func driving(t testing.TB, g *Group, want int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		n := g.Stats().Driving
		if n == want {
			return
		}
		for _, l := range g.Loops() {
			l.Wake()
		}
		if time.Now().After(end) {
			t.Fatalf("%d loops have their own thread, want %d", n, want)
		}
	}
}

// spin keeps a loop busy until stop says so, in turns of a quarter of a millisecond.
func spin(l *Loop, stop *atomic.Bool) {
	for end := time.Now().Add(250 * time.Microsecond); time.Now().Before(end); {
		continue
	}
	if !stop.Load() {
		l.Post(func() { spin(l, stop) })
	}
}

// Loops share a thread while little happens, part when one of them has much to do, and come together again.
func TestGather(t *testing.T) {
	g := testGroup(t, Options{Loops: 3, Gather: true})
	accept, made := handlers(echo)
	n := testListen(t, g, ListenOptions{Accept: accept})
	for round := range 3 {
		driving(t, g, 1)
		for range 2 * len(g.Loops()) { // connections of every loop are served
			c := dial(t, n)
			send(t, c, "hello")
			expect(t, c, "hello")
			wait(t, made)
		}
		var stop atomic.Bool
		busy := g.Loops()[round]
		busy.Post(func() { spin(busy, &stop) })
		driving(t, g, 3)
		for _, l := range g.Loops() {
			on(t, l, func() {})
		}
		stop.Store(true)
	}
	driving(t, g, 1)
}

// Posts between loops that share a thread need no system call.
func TestGatheredPostsAreFree(t *testing.T) {
	g := testGroup(t, Options{Loops: 2, Gather: true})
	driving(t, g, 1)
	a, b := g.Loops()[0], g.Loops()[1]
	done := make(chan struct{})
	before := g.Stats().Wakes
	var hop func(n int)
	hop = func(n int) {
		switch {
		case n == 0:
			close(done)
		case n%2 == 0:
			a.Post(func() { hop(n - 1) })
		default:
			b.Post(func() { hop(n - 1) })
		}
	}
	a.Post(func() { hop(100) })
	wait(t, done)
	if n := g.Stats().Wakes - before; n > 10 && g.Stats().Driving == 1 {
		t.Errorf("%d system calls for 100 posts between loops on one thread", n)
	}
}

// Timers of a loop that was lent expire, on time and when nothing else happens.
func TestGatheredTimers(t *testing.T) {
	g := testGroup(t, Options{Loops: 2, Gather: true})
	driving(t, g, 1)
	for _, l := range g.Loops() {
		b := &chime{rung: make(chan struct{})}
		var at int64
		on(t, l, func() {
			b.Init(b)
			at = clock() + int64(60*time.Millisecond) // later than the loop takes to fall asleep the ordinary way
			l.Arm(&b.Timer, at)
		})
		wait(t, b.rung)
		if now := clock(); now < at {
			t.Errorf("loop %d: %v early", l.ID(), time.Duration(at-now))
		}
	}
}

// Nothing is lost or run twice, or by two threads at once, however often loops are lent and given back, and a group
// stops from every state of it.
func TestGatherUnderChange(t *testing.T) {
	for range 8 {
		g, err := NewGroup(Options{Loops: 3, Gather: true})
		if err != nil {
			t.Fatal(err)
		}
		turns := make([]int, 3) // owned by the loops: the race detector looks
		for i, l := range g.Loops() {
			l.OnTurn(func() { turns[i]++ })
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running, posting sync.WaitGroup
		running.Go(func() {
			if err := g.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		posted, ran := make([]int, 3), make([]int, 3)
		for i, l := range g.Loops() {
			posting.Go(func() {
				for range 300 {
					posted[i]++
					burst := rand.IntN(20) == 0
					l.Post(func() {
						ran[i]++
						if burst {
							var once atomic.Bool
							once.Store(true)
							for range 8 {
								spin(l, &once)
							}
						}
						to := g.Loops()[rand.IntN(3)]
						to.Post(func() { to.Post(func() {}) })
					})
					if rand.IntN(4) == 0 {
						time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
					}
				}
			})
		}
		posting.Wait()
		for i, l := range g.Loops() {
			on(t, l, func() {
				if ran[i] != posted[i] {
					t.Errorf("loop %d ran %d functions of %d", i, ran[i], posted[i])
				}
			})
		}
		time.Sleep(time.Duration(rand.IntN(2)) * time.Millisecond)
		cancel()
		running.Wait()
	}
}

// Loops that share a thread and have nothing to do let it sleep.
func TestGatheredLoopsSleep(t *testing.T) {
	g := testGroup(t, Options{Loops: 3, Gather: true})
	driving(t, g, 1)
	time.Sleep(60 * time.Millisecond)
	before := g.Stats().Turns
	time.Sleep(300 * time.Millisecond)
	if n := g.Stats().Turns - before; n > 4 {
		t.Errorf("%d turns in 300 idle ms", n)
	}
}
