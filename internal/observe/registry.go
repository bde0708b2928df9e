package observe

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// MaxSeries bounds the series of one metric name. Label values come from the configuration and from closed sets, so
// the bound is only met by a mistake; what is registered beyond it counts, but is not shown, and
// windrose_observe_hidden_series tells how many there are.
const MaxSeries = 4096

// Counter only goes up. Safe for concurrent use; all methods work on nil and do nothing.
type Counter struct {
	v atomic.Uint64
	_ [56]byte // a cache line of its own: counters of two loops must not share one
}

// Add adds n.
func (c *Counter) Add(n uint64) {
	if c != nil {
		c.v.Add(n)
	}
}

// Inc adds one.
func (c *Counter) Inc() { c.Add(1) }

// Value is what was added so far, without the functions of CounterFunc under the same name.
func (c *Counter) Value() uint64 {
	if c == nil {
		return 0
	}
	return c.v.Load()
}

// Gauge goes up and down. Safe for concurrent use; all methods work on nil and do nothing.
type Gauge struct {
	v atomic.Int64
	_ [56]byte
}

// Set sets the value.
func (g *Gauge) Set(v int64) {
	if g != nil {
		g.v.Store(v)
	}
}

// Add adds d, which may be negative.
func (g *Gauge) Add(d int64) {
	if g != nil {
		g.v.Add(d)
	}
}

// Value is the present value, without the functions of GaugeFunc under the same name.
func (g *Gauge) Value() int64 {
	if g == nil {
		return 0
	}
	return g.v.Load()
}

// Registry holds the metrics of one node. Guarded by mu: the maps; the numbers themselves are atomics. A nil *Registry
// hands out nil metrics that do nothing, and still panics on a wrong name.
type Registry struct {
	mu       sync.Mutex
	families map[string]*family
	hidden   atomic.Int64
}

// family is all series of one name. Guarded by Registry.mu.
type family struct {
	name, help string
	kind       Kind
	keys       string // label keys of its first series: all others must have the same
	buckets    []float64
	series     map[string]*series
}

// series is one name with one set of labels. Guarded by Registry.mu: funcs and base; the rest is immutable.
type series struct {
	labels  []Label
	text    string
	counter *Counter
	gauge   *Gauge
	hist    *Histogram
	funcs   []*function
	base    float64 // what removed counter functions had counted: the sum never goes back
}

// function is one registration of CounterFunc or GaugeFunc; compared by address. Immutable after New.
type function struct{ f func() float64 }

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	r := &Registry{families: make(map[string]*family)}
	r.GaugeFunc("windrose_observe_hidden_series", "Series beyond the bound of their metric: counted but not shown.",
		func() float64 { return float64(r.hidden.Load()) })
	return r
}

// Counter returns the counter of that name and these labels (key, value, ...), creating it at first. Panics on a name or
// label that breaks the rules of name.go, or a name already used for another kind or other label keys.
func (r *Registry) Counter(name, help string, labels ...string) *Counter {
	mustCheck(KindCounter, name, labels)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.series(KindCounter, name, help, nil, labels).counter
}

// Gauge is like Counter for a number that goes up and down.
func (r *Registry) Gauge(name, help string, labels ...string) *Gauge {
	mustCheck(KindGauge, name, labels)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.series(KindGauge, name, help, nil, labels).gauge
}

// GaugeFunc adds a function to the gauge of that name and labels; the value shown is the gauge's own plus the sum of
// all its functions, so each loop may register its part. f is called from the goroutine that reads the metrics, at
// each read; it must not block and must not register. The returned function takes it out again (for reloads) and may be
// called more than once.
func (r *Registry) GaugeFunc(name, help string, f func() float64, labels ...string) (remove func()) {
	return r.function(KindGauge, name, help, f, labels)
}

// CounterFunc is like GaugeFunc for a number that only goes up. What a removed function had counted stays in the sum.
func (r *Registry) CounterFunc(name, help string, f func() float64, labels ...string) (remove func()) {
	return r.function(KindCounter, name, help, f, labels)
}

func (r *Registry) function(kind Kind, name, help string, f func() float64, labels []string) func() {
	mustCheck(kind, name, labels)
	if r == nil {
		return func() {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, fn := r.series(kind, name, help, nil, labels), &function{f}
	s.funcs = append(s.funcs, fn)
	return func() { r.removeFunction(kind, s, fn) }
}

func (r *Registry) removeFunction(kind Kind, s *series, fn *function) {
	var last float64
	if kind == KindCounter {
		last = fn.f() // outside the lock: f may take one of its own
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(s.funcs, fn)
	if i < 0 {
		return
	}
	// A new slice: readers hold the old one.
	s.funcs = slices.Concat(s.funcs[:i], s.funcs[i+1:])
	s.base += last
}

// Unregister forgets the series of that name and labels. Whoever still holds its counter may go on using it; it is
// only not shown any more.
func (r *Registry) Unregister(name string, labels ...string) {
	if r == nil {
		return
	}
	text := labelText(makeLabels(labels[:len(labels)&^1]))
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.families[name]; f != nil {
		delete(f.series, text)
		if len(f.series) == 0 {
			delete(r.families, name)
		}
	}
}

// UnregisterLabel forgets every series that carries this label, as a reload does with a pool that is gone. It returns
// how many there were.
func (r *Registry) UnregisterLabel(key, value string) int {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for name, f := range r.families {
		for text, s := range f.series {
			if slices.Contains(s.labels, Label{key, value}) {
				delete(f.series, text)
				n++
			}
		}
		if len(f.series) == 0 {
			delete(r.families, name)
		}
	}
	return n
}

// series finds or makes a series; r.mu is held. It panics on a contradiction: names are constants of the program, and
// the first test that builds the component shows it.
func (r *Registry) series(kind Kind, name, help string, buckets []float64, pairs []string) *series {
	labels := makeLabels(pairs)
	text, keys := labelText(labels), labelKeys(labels)
	f := r.families[name]
	if f == nil {
		f = &family{name: name, help: help, kind: kind, keys: keys, buckets: buckets, series: make(map[string]*series)}
		r.families[name] = f
	}
	switch {
	case f.kind != kind:
		panic(fmt.Sprintf("metric %q: registered as %s and as %s", name, f.kind, kind))
	case f.keys != keys:
		panic(fmt.Sprintf("metric %q: registered with labels {%s} and with {%s}", name, f.keys, keys))
	case kind == KindHistogram && !slices.Equal(f.buckets, buckets):
		panic(fmt.Sprintf("metric %q: registered with other buckets", name))
	}
	if s := f.series[text]; s != nil {
		return s
	}
	s := &series{labels: labels, text: text}
	switch kind {
	case KindCounter:
		s.counter = new(Counter)
	case KindGauge:
		s.gauge = new(Gauge)
	case KindHistogram:
		s.hist = newHistogram(buckets)
	}
	if len(f.series) >= MaxSeries {
		r.hidden.Add(1)
		return s
	}
	f.series[text] = s
	return s
}

func labelKeys(labels []Label) string {
	keys := make([]string, len(labels))
	for i, l := range labels {
		keys[i] = l.Key
	}
	return strings.Join(keys, ",")
}

// mustCheck panics on a wrong name: it is a constant of the program, not something that a run could bring.
func mustCheck(kind Kind, name string, labels []string) {
	if err := CheckName(kind, name); err != nil {
		panic(err.Error())
	}
	if err := CheckLabels(name, labels); err != nil {
		panic(err.Error())
	}
}
