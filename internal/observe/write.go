package observe

import (
	"bufio"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ContentType is the media type of what WritePrometheus writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Sample is one series as it was when it was read. Owned by the caller.
type Sample struct {
	Name    string   `json:"name"`
	Kind    Kind     `json:"kind"`
	Help    string   `json:"help,omitempty"`
	Labels  []Label  `json:"labels,omitempty"` // sorted by key
	Value   float64  `json:"value"`            // a histogram: how many observations
	Sum     float64  `json:"sum,omitempty"`    // a histogram: their sum
	Buckets []Bucket `json:"-"`                // a histogram: cumulative, the last bound is +Inf

	text string
}

// Bucket is how many observations were at most Le.
type Bucket struct {
	Le    float64
	Count uint64
}

// Label returns the value of a label, "" when the sample does not carry it.
func (s *Sample) Label(key string) string {
	for _, l := range s.Labels {
		if l.Key == key {
			return l.Value
		}
	}
	return ""
}

// Snapshot reads all metrics, sorted by name and labels. Functions are called without a lock held.
func (r *Registry) Snapshot() []Sample {
	if r == nil {
		return nil
	}
	type pending struct {
		sample Sample
		series series
	}
	r.mu.Lock()
	var all []pending
	for _, f := range r.families {
		for _, s := range f.series {
			all = append(all, pending{
				Sample{Name: f.name, Kind: f.kind, Help: f.help, Labels: s.labels, text: s.text}, *s,
			})
		}
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b pending) int {
		if c := strings.Compare(a.sample.Name, b.sample.Name); c != 0 {
			return c
		}
		return strings.Compare(a.sample.text, b.sample.text)
	})
	out := make([]Sample, len(all))
	for i := range all {
		out[i] = all[i].sample
		all[i].series.readInto(&out[i])
	}
	return out
}

func (s *series) readInto(out *Sample) {
	switch {
	case s.hist != nil:
		counts, sum := s.hist.read()
		out.Value, out.Sum = float64(counts[len(counts)-1]), sum
		out.Buckets = make([]Bucket, len(counts))
		for i, n := range counts {
			le := math.Inf(1)
			if i < len(s.hist.bounds) {
				le = s.hist.bounds[i]
			}
			out.Buckets[i] = Bucket{le, n}
		}
	case s.counter != nil:
		out.Value = float64(s.counter.Value())
	case s.gauge != nil:
		out.Value = float64(s.gauge.Value())
	}
	out.Value += s.base
	for _, fn := range s.funcs {
		out.Value += fn.f()
	}
}

// WritePrometheus writes all metrics in the Prometheus text format 0.0.4, sorted by name and labels.
func (r *Registry) WritePrometheus(w io.Writer) error {
	b := bufio.NewWriter(w) // keeps the first error and returns it from Flush
	last := ""
	for _, s := range r.Snapshot() {
		if s.Name != last {
			last = s.Name
			if s.Help != "" {
				_, _ = b.WriteString("# HELP " + s.Name + " " + helpEscaper.Replace(s.Help) + "\n")
			}
			_, _ = b.WriteString("# TYPE " + s.Name + " " + string(s.Kind) + "\n")
		}
		if s.Kind != KindHistogram {
			writeLine(b, s.Name, "", s.text, "", s.Value)
			continue
		}
		for _, k := range s.Buckets {
			writeLine(b, s.Name, "_bucket", s.text, `le="`+formatValue(k.Le)+`"`, float64(k.Count))
		}
		writeLine(b, s.Name, "_sum", s.text, "", s.Sum)
		writeLine(b, s.Name, "_count", s.text, "", s.Value)
	}
	return b.Flush()
}

func writeLine(b *bufio.Writer, name, suffix, labels, extra string, v float64) {
	_, _ = b.WriteString(name)
	_, _ = b.WriteString(suffix)
	if labels != "" || extra != "" {
		_ = b.WriteByte('{')
		_, _ = b.WriteString(labels)
		if labels != "" && extra != "" {
			_ = b.WriteByte(',')
		}
		_, _ = b.WriteString(extra)
		_ = b.WriteByte('}')
	}
	_ = b.WriteByte(' ')
	_, _ = b.WriteString(formatValue(v))
	_ = b.WriteByte('\n')
}

func formatValue(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	case math.IsNaN(v):
		return "NaN"
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// Family is what is known of all series of one name. Immutable.
type Family struct {
	Name   string   `json:"name"`
	Kind   Kind     `json:"kind"`
	Help   string   `json:"help"`
	Unit   string   `json:"unit"`   // the last word of the name: one of Units
	Labels []string `json:"labels"` // keys, sorted
}

// Families lists everything that is registered, sorted by name.
func (r *Registry) Families() []Family {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Family, 0, len(r.families))
	for _, f := range r.families {
		unit := strings.TrimSuffix(f.name, "_total")
		labels := []string{}
		if f.keys != "" {
			labels = strings.Split(f.keys, ",")
		}
		out = append(out, Family{Name: f.name, Kind: f.kind, Help: f.help, Unit: unit[strings.LastIndexByte(unit, '_')+1:], Labels: labels})
	}
	slices.SortFunc(out, func(a, b Family) int { return strings.Compare(a.Name, b.Name) })
	return out
}
