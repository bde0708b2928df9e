// Package observe is how Windrose tells what it does: a registry of counters, gauges and histograms in the Prometheus
// text format, the structured logger, a limiter for log lines that a remote peer can trigger, and a writer that keeps
// a slow log consumer from stopping a loop.
//
// Metric names follow `windrose_<noun>_<what>_<unit>[_total]` and label keys come from a closed set (name.go), so that
// neither a client nor a topic can ever become a label. A wrong name is a programming error: registration panics, with
// a nil registry too, so that the first test that builds the component shows it.
//
// # Concurrency
//
// Everything exported is safe for concurrent use. Counter, Gauge and Histogram are atomics: they neither lock nor
// allocate and may be used on a loop. Registering takes a lock and is done when something is built, not per event.
package observe
