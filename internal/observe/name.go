package observe

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is what sort of number a metric is.
type Kind string

// The kinds, in the words of the Prometheus text format.
const (
	KindCounter   Kind = "counter"
	KindGauge     Kind = "gauge"
	KindHistogram Kind = "histogram"
)

// Prefix begins every metric name.
const Prefix = "windrose_"

// Units returns what a metric name may end in (before `_total`), sorted. The set is closed: a new unit is added here.
func Units() []string {
	return []string{
		"acks", "attempts", "bytes", "calls", "checks", "clients", "connections", "credits", "cycles", "datagrams",
		"entries", "errors", "events", "fds", "filters", "frames", "goroutines", "handshakes", "info", "legs",
		"letters", "lines", "mails", "members", "messages", "objects", "outcomes", "packets", "peers", "ratio",
		"receipts", "records", "reloads", "requests", "routes", "seconds", "series", "sessions", "state", "streams",
		"subscriptions", "switches", "takeovers", "threads", "tickets", "timers", "times", "topics", "turns",
		"users", "values", "wakes", "wills",
	}
}

// LabelKeys returns the closed set of label keys, sorted. A client, a topic and an address are never among them: their
// number has no bound.
func LabelKeys() []string {
	return []string{
		"code", "direction", "kind", "listener", "loop", "outcome", "overflow", "policy", "pool", "protocol", "qos",
		"reason", "route", "state", "version",
	}
}

// CheckName says what is wrong with a metric name of that kind; nil when it is well formed. Four words at least:
// windrose, the noun (the component), what, the unit. A counter ends in `_total`, nothing else does.
func CheckName(kind Kind, name string) error {
	rest, ok := strings.CutPrefix(name, Prefix)
	if !ok {
		return fmt.Errorf("metric %q: must begin with %q", name, Prefix)
	}
	rest, total := strings.CutSuffix(rest, "_total")
	if total != (kind == KindCounter) {
		if total {
			return fmt.Errorf("metric %q: a %s must not end in _total", name, kind)
		}
		return fmt.Errorf("metric %q: a counter must end in _total", name)
	}
	words := strings.Split(rest, "_")
	for _, w := range words {
		if !isWord(w) {
			return fmt.Errorf("metric %q: words are lower case letters and digits, joined by one _", name)
		}
	}
	if len(words) < 3 {
		return fmt.Errorf("metric %q: want windrose_<noun>_<what>_<unit>[_total]", name)
	}
	if unit := words[len(words)-1]; !slices.Contains(Units(), unit) {
		return fmt.Errorf("metric %q: unit %q is not one of %s", name, unit, strings.Join(Units(), ", "))
	}
	return nil
}

// CheckLabels says what is wrong with a list of key, value pairs; nil when it is well formed.
func CheckLabels(name string, pairs []string) error {
	if len(pairs)%2 != 0 {
		return fmt.Errorf("metric %q: labels are pairs of key and value, got %d strings", name, len(pairs))
	}
	for i := 0; i < len(pairs); i += 2 {
		if !slices.Contains(LabelKeys(), pairs[i]) {
			return fmt.Errorf("metric %q: label %q is not one of %s", name, pairs[i], strings.Join(LabelKeys(), ", "))
		}
		for j := 0; j < i; j += 2 {
			if pairs[i] == pairs[j] {
				return fmt.Errorf("metric %q: label %q given twice", name, pairs[i])
			}
		}
	}
	return nil
}

func isWord(w string) bool {
	if w == "" {
		return false
	}
	for i := range len(w) {
		if c := w[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// Label is one key and value of a series.
type Label struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// makeLabels sorts pairs by key, so that the order in which a caller writes them does not matter.
func makeLabels(pairs []string) []Label {
	labels := make([]Label, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, Label{pairs[i], strings.ToValidUTF8(pairs[i+1], "\uFFFD")})
	}
	slices.SortFunc(labels, func(a, b Label) int { return strings.Compare(a.Key, b.Key) })
	return labels
}

var (
	labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	helpEscaper  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)

// labelText is the text between the braces, and the key of a series within its family.
func labelText(labels []Label) string {
	if len(labels) == 0 {
		return ""
	}
	var b strings.Builder
	for i, l := range labels {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(l.Key)
		b.WriteString(`="`)
		_, _ = labelEscaper.WriteString(&b, l.Value)
		b.WriteByte('"')
	}
	return b.String()
}
