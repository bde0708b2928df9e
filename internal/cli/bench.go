package cli

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// benchPlan is what a run does. Immutable after check.
type benchPlan struct {
	Pubs     int           `json:"pubs"`
	Subs     int           `json:"subs"`
	Pattern  string        `json:"pattern"` // "pairs" or "fanout"
	QoS      uint8         `json:"qos"`
	Size     int           `json:"payload_bytes"`
	Rate     float64       `json:"target_rate"` // events per second over all publishers; 0: as the window allows
	Window   int           `json:"window"`
	Duration time.Duration `json:"-"`
	drain    time.Duration
	prefix   string // of topics and client ids
	run      [8]byte
}

// benchDoc is what windrose bench prints. Latencies are in milliseconds, from the time an event was due (with a rate) or
// sent (without) to its arrival at a subscriber, respectively to its acknowledgement.
type benchDoc struct {
	URL      string `json:"url"`
	Protocol string `json:"protocol"`
	benchPlan
	Seconds     float64        `json:"seconds"` // of publishing
	Sent        uint64         `json:"sent"`
	Acked       uint64         `json:"acknowledged"`
	Refused     uint64         `json:"refused"`
	Refusals    []benchRefusal `json:"refusals"`
	Unanswered  uint64         `json:"unanswered"`
	Expected    uint64         `json:"expected"`
	Delivered   uint64         `json:"delivered"`
	Lost        uint64         `json:"lost"`
	Duplicated  uint64         `json:"duplicated"`
	Reordered   uint64         `json:"reordered"`
	Foreign     uint64         `json:"foreign"` // events that this run did not send
	Stalls      uint64         `json:"stalls"`  // times that a full window gave up on deliveries that did not come
	Cut         int            `json:"connections_lost"`
	SendRate    float64        `json:"sent_per_second"`
	DeliverRate float64        `json:"delivered_per_second"`
	Latency     quantiles      `json:"latency_ms"`
	AckLatency  quantiles      `json:"ack_latency_ms"`
}

// benchRefusal is why publishes were refused, and how many.
type benchRefusal struct {
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

func (e *env) benchCommand() *cobra.Command {
	return e.group("bench", "Measure a server: mqtt", e.benchMQTTCommand())
}

func (e *env) benchMQTTCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "mqtt", Short: "Publish and subscribe at once; count what is lost, doubled or out of order, and how long it took",
		Args: e.args(cobra.NoArgs, "no arguments"),
		Long: "Publishers and subscribers of one process measure an MQTT server. Every event carries its number, so that a lost,\n" +
			"doubled or reordered one is found. Exit code 1 when an event is doubled or out of order, or lost with QoS 1 or 2.\n\n" +
			"pairs: publisher N sends to subscriber N (modulo their number); fanout: every subscriber receives every event.\n" +
			"Client and server share the machine's processors when they share the machine.",
		Example: "  windrose bench mqtt --pubs 100 --subs 100 --qos 1 --duration 10s\n  windrose bench mqtt --pattern fanout --pubs 1 --subs 500 --rate 1000 -o json",
	}
	conn := addConnectFlags(c)
	p := &benchPlan{}
	fl := c.Flags()
	fl.IntVar(&p.Pubs, "pubs", 10, "publishers")
	fl.IntVar(&p.Subs, "subs", 10, "subscribers; 0: publish only")
	fl.StringVar(&p.Pattern, "pattern", "pairs", "who receives what: pairs or fanout")
	fl.Float64Var(&p.Rate, "rate", 0, "events per second over all publishers; 0: as fast as the window allows")
	fl.IntVar(&p.Window, "window", 64, "events of a publisher that are not yet acknowledged or delivered")
	fl.Uint8VarP(&p.QoS, "qos", "q", 0, "quality of service: 0, 1 or 2")
	fl.IntVar(&p.Size, "size", 64, "bytes of payload, at least "+strconv.Itoa(stampLen))
	fl.DurationVar(&p.Duration, "duration", 10*time.Second, "how long to publish")
	fl.DurationVar(&p.drain, "drain", 5*time.Second, "how long to wait afterwards for what is missing")
	fl.StringVar(&p.prefix, "topic", "bench", "first level of the topics")
	quiet := fl.Bool("quiet", false, "no progress on stderr")
	o := outputFlag(c)
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error {
		if err := p.check(); err != nil {
			return err
		}
		to, err := conn.connection()
		if err != nil {
			return err
		}
		b := newBench(e, p, to, conn.timeout)
		if *quiet {
			b.progress = nil
		}
		doc, err := b.run(cmd.Context())
		if err != nil {
			return err
		}
		doc.URL, doc.Protocol = redactURL(conn.url), conn.version
		if err := o.print(e.out, doc, doc.table); err != nil {
			return err
		}
		return doc.verdict()
	})
	return c
}

// The bounds of a run on one machine.
const (
	maxBenchClients = 60_000
	maxBenchLanes   = 4 << 20 // pairs of publisher and subscriber that see each other
)

func (p *benchPlan) check() error {
	switch {
	case p.Pubs < 1 || p.Subs < 0 || p.Pubs+p.Subs > maxBenchClients:
		return usagef("--pubs %d --subs %d: want at least one publisher, and at most %d clients in all", p.Pubs, p.Subs, maxBenchClients)
	case p.Pattern != "pairs" && p.Pattern != "fanout":
		return usagef("--pattern %s: want pairs or fanout", p.Pattern)
	case p.Pattern == "fanout" && p.Pubs*p.Subs > maxBenchLanes:
		return usagef("--pattern fanout: want at most %d pairs of publisher and subscriber", maxBenchLanes)
	case p.QoS > 2:
		return usagef("--qos %d: want 0, 1 or 2", p.QoS)
	case p.Size < stampLen || p.Size > maxLine:
		return usagef("--size %d: want %d to %d bytes", p.Size, stampLen, maxLine)
	case p.Rate < 0 || p.Rate > 1e8:
		return usagef("--rate %g: want 0 to 100,000,000 events per second", p.Rate)
	case p.Window < 1 || p.Window > 65535:
		return usagef("--window %d: want 1 to 65535", p.Window)
	case p.Duration <= 0 || p.drain < 0:
		return usagef("--duration and --drain: want a time such as 10s")
	case p.prefix == "" || p.prefix[0] == '$':
		return usagef("--topic %s: want the beginning of a topic", p.prefix)
	}
	_, _ = rand.Read(p.run[:]) // never fails
	return nil
}

// topic is where publisher i sends to.
func (p *benchPlan) topic(i int) string {
	n := i
	if p.Pattern == "pairs" && p.Subs > 0 {
		n = i % p.Subs
	}
	return p.prefix + "/" + hex.EncodeToString(p.run[:]) + "/" + strconv.Itoa(n)
}

// filter is what subscriber j asks for.
func (p *benchPlan) filter(j int) string {
	if p.Pattern == "fanout" {
		return p.prefix + "/" + hex.EncodeToString(p.run[:]) + "/#"
	}
	return p.topic(j)
}

// receivers is how many subscribers get each event.
func (p *benchPlan) receivers() int {
	if p.Pattern == "fanout" {
		return p.Subs
	}
	return min(1, p.Subs)
}

// lane says whether subscriber j gets what publisher i sends, and as which of its lanes.
func (p *benchPlan) lane(i, j int) (lane int, ok bool) {
	if p.Pattern == "fanout" {
		return i, true
	}
	return i / p.Subs, i%p.Subs == j
}

// tracker is the subscriber whose deliveries make room in the window of publisher i.
func (p *benchPlan) tracker(i int) int {
	if p.Pattern == "fanout" || p.Subs == 0 {
		return 0
	}
	return i % p.Subs
}

// verdict is the error that the numbers amount to.
func (d *benchDoc) verdict() error {
	var errs []error
	if d.Duplicated > 0 {
		errs = append(errs, fmt.Errorf("%d events doubled", d.Duplicated))
	}
	if d.Reordered > 0 {
		errs = append(errs, fmt.Errorf("%d events out of order", d.Reordered))
	}
	if d.Lost > 0 && d.QoS > 0 {
		errs = append(errs, fmt.Errorf("%d events lost", d.Lost))
	}
	if d.Cut > 0 {
		errs = append(errs, fmt.Errorf("%d connections lost", d.Cut))
	}
	return errors.Join(errs...)
}

func (d *benchDoc) table() table {
	rate := "as the window allows"
	if d.Rate > 0 {
		rate = fmt.Sprintf("%s/s", group(uint64(d.Rate)))
	}
	row := func(cells ...string) []string { return cells }
	t := table{names: []string{"bench"}, rows: [][]string{
		row("plan", "", fmt.Sprintf("%d pubs, %d subs, %s, QoS %d, %d bytes, %s", d.Pubs, d.Subs, d.Pattern, d.QoS, d.Size, rate)),
		row("sent", group(d.Sent), group(uint64(d.SendRate))+"/s"),
	}}
	if d.QoS > 0 {
		t.rows = append(t.rows, row("acknowledged", group(d.Acked), d.AckLatency.String()))
	}
	if d.Subs > 0 {
		t.rows = append(t.rows, row("delivered", group(d.Delivered), group(uint64(d.DeliverRate))+"/s"), row("latency", "", d.Latency.String()))
	}
	t.rows = append(t.rows, row("lost", group(d.Lost)), row("doubled", group(d.Duplicated)), row("out of order", group(d.Reordered)))
	for _, r := range d.Refusals {
		t.rows = append(t.rows, row("refused", group(r.Count), r.Reason))
	}
	for _, x := range []struct {
		name string
		n    uint64
	}{{"unanswered", d.Unanswered}, {"foreign", d.Foreign}, {"stalls", d.Stalls}, {"cut", uint64(d.Cut)}} {
		if x.n > 0 {
			t.rows = append(t.rows, row(x.name, group(x.n)))
		}
	}
	return t
}

// group writes a number with its thousands apart.
func group(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func sortRefusals(m map[string]uint64) []benchRefusal {
	out := []benchRefusal{}
	for reason, n := range m {
		out = append(out, benchRefusal{reason, n})
	}
	slices.SortFunc(out, func(a, b benchRefusal) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}
