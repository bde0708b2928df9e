package app

import (
	"math"
	"testing"
	"time"
)

// An average follows its rate within its window, faster the shorter it is, and an idle node comes back to 0.
func TestSysLoads(t *testing.T) {
	x := &sysTopics{}
	now := time.Unix(1_700_000_000, 0)
	var c sysCounts
	step := func(n int, each float64) {
		for range n {
			now = now.Add(10 * time.Second)
			c.received += each
			x.load(now, &c)
		}
	}
	step(1, 1000) // the first is only where to count from
	if x.loads != [len(sysLoads)][len(sysMinutes)]float64{} {
		t.Errorf("%v before anything was counted", x.loads)
	}
	const received = 1
	step(6, 100) // 600 a minute, for a minute
	for j, minutes := range sysMinutes {
		if want := 600 * (1 - math.Exp(-1/float64(minutes))); math.Abs(x.loads[received][j]-want) > 0.01 {
			t.Errorf("%d min: %v, want %v", minutes, x.loads[received][j], want)
		}
	}
	x.load(now, &c) // no time has passed
	step(600, 0)
	for j := range sysMinutes {
		if x.loads[received][j] > 1 {
			t.Errorf("still %v after 100 idle minutes", x.loads[received])
		}
	}
}
