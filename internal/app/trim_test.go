package app

import "testing"

func TestTrimWhenAStormIsOver(t *testing.T) {
	var tr trimmer
	for i, step := range []struct {
		sessions int64
		want     bool
	}{
		{0, false}, {500, false}, {500, false}, // too few
		{5000, false}, {9000, false}, {9000, true}, {9000, false}, // once, at rest
		{9100, false}, {9100, false}, // not much
		{100, false}, {100, true}, // they are gone
	} {
		if got := tr.due(step.sessions); got != step.want {
			t.Errorf("step %d with %d sessions: %v", i, step.sessions, got)
		}
	}
}
