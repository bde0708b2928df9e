package policy

// StepInfo is what a chain tells about one of its policies: its verdicts so far. Immutable.
type StepInfo struct {
	Name                              string
	Passed, Dropped, Rejected, Parked uint64
}

// Steps lists the policies in order. What the loops have not added to the shared counters yet is missing.
func (c *Chain) Steps() []StepInfo {
	if c == nil {
		return nil
	}
	out := make([]StepInfo, len(c.steps))
	for i := range c.steps {
		k := &c.steps[i].kinds
		out[i] = StepInfo{Name: c.steps[i].name, Passed: k[Pass].Value(), Dropped: k[Drop].Value(), Rejected: k[Reject].Value(), Parked: k[Park].Value()}
	}
	return out
}
