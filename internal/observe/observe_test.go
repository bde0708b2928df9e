package observe

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestWritePrometheusIsTheTextFormatInAFixedOrder(t *testing.T) {
	r := NewRegistry()
	r.Counter("windrose_mqtt_received_packets_total", "Packets.\nBy \\ kind.", "listener", "b\"\\\n", "kind", "PUBLISH").Add(3)
	r.Counter("windrose_mqtt_received_packets_total", "", "kind", "CONNECT", "listener", "a").Inc()
	r.Gauge("windrose_pool_queued_events", "Waiting.", "pool", "north").Set(-2)
	r.GaugeFunc("windrose_pool_used_ratio", "Used.", func() float64 { return .25 })
	h := r.Histogram("windrose_mqtt_ack_seconds", "Time.", []float64{.5, 1}, "listener", "a")
	h.Observe(.5)
	h.Observe(.75)
	h.Observe(2)
	const want = `# HELP windrose_mqtt_ack_seconds Time.
# TYPE windrose_mqtt_ack_seconds histogram
windrose_mqtt_ack_seconds_bucket{listener="a",le="0.5"} 1
windrose_mqtt_ack_seconds_bucket{listener="a",le="1"} 2
windrose_mqtt_ack_seconds_bucket{listener="a",le="+Inf"} 3
windrose_mqtt_ack_seconds_sum{listener="a"} 3.25
windrose_mqtt_ack_seconds_count{listener="a"} 3
# HELP windrose_mqtt_received_packets_total Packets.\nBy \\ kind.
# TYPE windrose_mqtt_received_packets_total counter
windrose_mqtt_received_packets_total{kind="CONNECT",listener="a"} 1
windrose_mqtt_received_packets_total{kind="PUBLISH",listener="b\"\\\n"} 3
# HELP windrose_observe_hidden_series Series beyond the bound of their metric: counted but not shown.
# TYPE windrose_observe_hidden_series gauge
windrose_observe_hidden_series 0
# HELP windrose_pool_queued_events Waiting.
# TYPE windrose_pool_queued_events gauge
windrose_pool_queued_events{pool="north"} -2
# HELP windrose_pool_used_ratio Used.
# TYPE windrose_pool_used_ratio gauge
windrose_pool_used_ratio 0.25
`
	for range 3 {
		var b bytes.Buffer
		if err := r.WritePrometheus(&b); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Fatalf("got\n%s\nwant\n%s", b.String(), want)
		}
	}
}

func TestFormatValue(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 12: "12", -3: "-3", .1: "0.1", 1e18: "1e+18", 9007199254740991: "9007199254740991",
		math.Inf(1): "+Inf", math.Inf(-1): "-Inf",
	} {
		if got := formatValue(v); got != want {
			t.Errorf("formatValue(%v) = %s, want %s", v, got, want)
		}
	}
	if got := formatValue(math.NaN()); got != "NaN" {
		t.Errorf("NaN = %s", got)
	}
}

func TestSameNameAndLabelsIsTheSameMetric(t *testing.T) {
	r := NewRegistry()
	a := r.Counter("windrose_pool_sent_events_total", "h", "pool", "a", "qos", "1")
	b := r.Counter("windrose_pool_sent_events_total", "h", "qos", "1", "pool", "a")
	if a != b {
		t.Error("the order of labels made another counter")
	}
	if r.Counter("windrose_pool_sent_events_total", "h", "pool", "b", "qos", "1") == a {
		t.Error("another label value gave the same counter")
	}
}

func TestWrongNamesPanicAndSayWhy(t *testing.T) {
	r := NewRegistry()
	r.Counter("windrose_pool_sent_events_total", "h", "pool", "a")
	r.Histogram("windrose_pool_ack_seconds", "h", []float64{1})
	for _, tc := range []struct {
		want string
		f    func(*Registry)
	}{
		{"begin with", func(r *Registry) { r.Counter("pool_sent_events_total", "") }},
		{"must end in _total", func(r *Registry) { r.Counter("windrose_pool_sent_events", "") }},
		{"must not end in _total", func(r *Registry) { r.Gauge("windrose_pool_sent_events_total", "") }},
		{"must not end in _total", func(r *Registry) { r.Histogram("windrose_pool_sent_seconds_total", "", nil) }},
		{"want windrose_", func(r *Registry) { r.Counter("windrose_events_total", "") }},
		{"want windrose_", func(r *Registry) { r.Gauge("windrose_pool_events", "") }},
		{"unit", func(r *Registry) { r.Gauge("windrose_pool_queued_bananas", "") }},
		{"words are", func(r *Registry) { r.Gauge("windrose_Pool_queued_events", "") }},
		{"words are", func(r *Registry) { r.Gauge("windrose_pool__events", "") }},
		{"label \"client\"", func(r *Registry) { r.Gauge("windrose_pool_queued_events", "", "client", "x") }},
		{"label \"topic\"", func(r *Registry) { r.GaugeFunc("windrose_pool_queued_events", "", nil, "topic", "x") }},
		{"pairs", func(r *Registry) { r.Gauge("windrose_pool_queued_events", "", "pool") }},
		{"twice", func(r *Registry) { r.Gauge("windrose_pool_queued_events", "", "pool", "a", "pool", "b") }},
		{"ascend", func(r *Registry) { r.Histogram("windrose_pool_try_seconds", "", []float64{2, 1}) }},
	} {
		for _, reg := range []*Registry{r, nil} {
			if got := panicText(func() { tc.f(reg) }); !strings.Contains(got, tc.want) {
				t.Errorf("registry %v: panic %q does not contain %q", reg != nil, got, tc.want)
			}
		}
	}
	for _, tc := range []struct {
		want string
		f    func()
	}{
		{"with labels", func() { r.Counter("windrose_pool_sent_events_total", "", "pool", "a", "qos", "1") }},
		{"other buckets", func() { r.Histogram("windrose_pool_ack_seconds", "", []float64{2}) }},
	} {
		if got := panicText(tc.f); !strings.Contains(got, tc.want) {
			t.Errorf("panic %q does not contain %q", got, tc.want)
		}
	}
}

func panicText(f func()) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text, _ = p.(string)
		}
	}()
	f()
	return "no panic"
}

func TestNilMetricsDoNothing(t *testing.T) {
	var r *Registry
	c := r.Counter("windrose_pool_sent_events_total", "")
	c.Inc()
	c.Add(2)
	g := r.Gauge("windrose_pool_queued_events", "")
	g.Set(1)
	g.Add(1)
	r.Histogram("windrose_pool_ack_seconds", "", nil).Observe(1)
	r.GaugeFunc("windrose_pool_used_ratio", "", func() float64 { return 1 })()
	r.CounterFunc("windrose_pool_tried_times_total", "", func() float64 { return 1 })()
	r.Unregister("windrose_pool_sent_events_total")
	r.UnregisterLabel("pool", "a")
	if c.Value() != 0 || g.Value() != 0 || r.Snapshot() != nil {
		t.Error("a nil registry shows something")
	}
	if err := r.WritePrometheus(io.Discard); err != nil {
		t.Error(err)
	}
}

func TestFunctionsAddUpAndCountersNeverGoBack(t *testing.T) {
	r := NewRegistry()
	value := func(name string) float64 {
		for _, s := range r.Snapshot() {
			if s.Name == name {
				return s.Value
			}
		}
		return -1
	}
	old, next := 5.0, 1.0
	removeOld := r.CounterFunc("windrose_pool_sent_events_total", "", func() float64 { return old }, "pool", "a")
	r.CounterFunc("windrose_pool_sent_events_total", "", func() float64 { return next }, "pool", "a")
	r.Counter("windrose_pool_sent_events_total", "", "pool", "a").Add(10)
	if v := value("windrose_pool_sent_events_total"); v != 16 {
		t.Errorf("own + two functions = %v, want 16", v)
	}
	removeOld()
	removeOld()
	next = 2
	if v := value("windrose_pool_sent_events_total"); v != 17 {
		t.Errorf("after a removal %v, want 17", v)
	}
	removeGauge := r.GaugeFunc("windrose_pool_queued_events", "", func() float64 { return 7 })
	r.GaugeFunc("windrose_pool_queued_events", "", func() float64 { return 2 })
	removeGauge()
	if v := value("windrose_pool_queued_events"); v != 2 {
		t.Errorf("gauge after a removal %v, want 2", v)
	}
}

func TestUnregister(t *testing.T) {
	r := NewRegistry()
	for _, pool := range []string{"a", "b"} {
		r.Counter("windrose_pool_sent_events_total", "", "pool", pool)
		r.Gauge("windrose_pool_queued_events", "", "pool", pool)
	}
	if n := r.UnregisterLabel("pool", "a"); n != 2 {
		t.Errorf("UnregisterLabel removed %d, want 2", n)
	}
	r.Unregister("windrose_pool_sent_events_total", "pool", "b")
	var names []string
	for _, s := range r.Snapshot() {
		names = append(names, s.Name+s.Label("pool"))
	}
	if want := []string{"windrose_observe_hidden_series", "windrose_pool_queued_eventsb"}; !slices.Equal(names, want) {
		t.Errorf("left %v, want %v", names, want)
	}
	// A name that is gone entirely may come back as something else.
	r.Counter("windrose_pool_sent_events_total", "", "pool", "b", "qos", "0")
}

func TestSeriesAreBounded(t *testing.T) {
	r := NewRegistry()
	for i := range MaxSeries + 3 {
		r.Counter("windrose_pool_sent_events_total", "", "pool", string(rune('a'+i%26))+string(rune(0x4e00+i))).Inc()
	}
	n, hidden := 0, 0.0
	for _, s := range r.Snapshot() {
		switch s.Name {
		case "windrose_pool_sent_events_total":
			n++
		case "windrose_observe_hidden_series":
			hidden = s.Value
		}
	}
	if n != MaxSeries || hidden != 3 {
		t.Errorf("%d series and %v hidden, want %d and 3", n, hidden, MaxSeries)
	}
}

func TestConcurrentUse(t *testing.T) {
	r := NewRegistry()
	Runtime(r, "test")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				r.Counter("windrose_pool_sent_events_total", "", "pool", "a").Inc()
				r.Histogram("windrose_pool_ack_seconds", "", LatencyBuckets()).Observe(.001)
				remove := r.GaugeFunc("windrose_pool_queued_events", "", func() float64 { return 1 })
				if err := r.WritePrometheus(io.Discard); err != nil {
					t.Error(err)
				}
				remove()
			}
		})
	}
	wg.Wait()
	if v := r.Counter("windrose_pool_sent_events_total", "", "pool", "a").Value(); v != 800 {
		t.Errorf("counter %d, want 800", v)
	}
}

func TestRuntimeMetrics(t *testing.T) {
	r := NewRegistry()
	Runtime(r, "v1.2.3")
	got := map[string]float64{}
	for _, s := range r.Snapshot() {
		got[s.Name+s.Label("kind")] = s.Value
	}
	for _, name := range []string{
		"windrose_go_heap_bytes", "windrose_go_live_goroutines", "windrose_go_max_threads", "windrose_node_build_infowindrose",
		"windrose_node_build_infogo", "windrose_process_start_time_seconds", "windrose_process_max_fds",
	} {
		if got[name] <= 0 {
			t.Errorf("%s = %v", name, got[name])
		}
	}
	if _, ok := got["windrose_process_cpu_seconds_total"]; !ok {
		t.Error("no CPU time")
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	r := NewRegistry()
	c := r.Counter("windrose_pool_sent_events_total", "")
	g := r.Gauge("windrose_pool_queued_events", "")
	h := r.Histogram("windrose_pool_ack_seconds", "", LatencyBuckets())
	if n := testing.AllocsPerRun(100, func() { c.Inc(); g.Add(1); h.Observe(.01) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestUnitsAndLabelKeysAreSorted(t *testing.T) {
	if !slices.IsSorted(Units()) || !slices.IsSorted(LabelKeys()) {
		t.Error("the closed sets are not sorted")
	}
}
