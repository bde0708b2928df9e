package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/windrose-edc/windrose/internal/admin"
)

// kind is what get and describe can show. Immutable.
type kind struct {
	name, one string   // "pools", "pool"
	aliases   []string // besides one
	path      string
	header    []string
	// row makes the name and the cells of a row of the API's list.
	row func(raw json.RawMessage) (name string, cells []string, err error)
	// id is the field of a row that its name is; completion asks by it.
	id string
	// describe makes the path of one object; nil: path/NAME.
	describe func(name string) (string, error)
}

func kindOf[T any](name, one, id string, header []string, row func(*T) (name string, cells []string), aliases ...string) kind {
	return kind{name: name, one: one, aliases: aliases, path: "/api/v1/" + name, header: header, id: id,
		row: func(raw json.RawMessage) (string, []string, error) {
			v := new(T)
			if err := json.Unmarshal(raw, v); err != nil {
				return "", nil, fmt.Errorf("read a row of %s: %w", name, err)
			}
			n, cells := row(v)
			return n, cells, nil
		}}
}

// kinds are all of them, in the order of the help.
func kinds() []kind {
	num := func(n int) string { return strconv.Itoa(n) }
	letters := kindOf("deadletters", "deadletter", "", []string{"POOL/ID", "AGE", "TOPIC", "REASON", "ATTEMPTS", "BYTES", "TEXT"}, func(d *admin.DeadLetter) (string, []string) {
		id := fmt.Sprintf("%s/%d", d.Pool, d.ID)
		return id, []string{id, age(d.Time), d.Topic, d.Reason, num(d.Attempts), num(d.Bytes), d.Text}
	}, "dead", "letters")
	letters.describe = letterPath
	subscriptions := kindOf("subscriptions", "subscription", "", []string{"SESSION", "FILTER", "QOS", "OPTIONS"}, func(s *admin.Subscription) (string, []string) {
		var o []string
		if s.NoLocal {
			o = append(o, "no-local")
		}
		if s.RetainAsPublished {
			o = append(o, "retain-as-published")
		}
		if s.ID != 0 {
			o = append(o, "id="+strconv.FormatUint(uint64(s.ID), 10))
		}
		return s.Session + " " + s.Filter, []string{s.Session, s.Filter, num(s.QoS), strings.Join(o, " ")}
	}, "subs")
	subscriptions.describe = func(string) (string, error) {
		return "", usagef("subscriptions have no names: get subscriptions --session ID")
	}
	return []kind{
		kindOf("listeners", "listener", "name", []string{"NAME", "PROTOCOL", "ADDRESS", "TLS", "STATE", "CONNECTIONS", "ACCEPTED", "REFUSED"}, func(l *admin.Listener) (string, []string) {
			return l.Name, []string{l.Name, l.Protocol, l.Address, yes(l.TLS), l.State, num(l.Connections), digits(l.Accepted), digits(l.Refused)}
		}),
		kindOf("sessions", "session", "id", []string{"SESSION", "USER", "STATE", "FOR", "LISTENER", "PROTOCOL", "ADDRESS", "SUBS", "QUEUED", "UNACKED", "RECEIVED", "DELIVERED", "DROPPED"},
			func(s *admin.Session) (string, []string) {
				state := "offline"
				if s.Connected {
					state = "connected"
				}
				return s.ID, []string{s.ID, dash(s.User), state, age(s.Since), s.Listener, s.Protocol, dash(s.Address), num(s.Subscriptions), num(s.Queued), num(s.Unacked),
					digits(s.Received), digits(s.Delivered), digits(s.Dropped)}
			}, "clients", "client"),
		subscriptions,
		kindOf("retained", "retained", "topic", []string{"TOPIC", "BYTES", "AGE", "PUBLISHER"}, func(r *admin.Retained) (string, []string) {
			return r.Topic, []string{r.Topic, num(r.Bytes), age(r.Time), dash(r.Publisher)}
		}),
		kindOf("routes", "route", "name", []string{"NAME", "TOPIC", "TO", "ACK", "MATCHED"}, func(r *admin.Route) (string, []string) {
			return r.Name, []string{r.Name, r.Topic, strings.Join(r.To, ","), r.Ack, digits(r.Matched)}
		}),
		kindOf("pools", "pool", "name", []string{"NAME", "TYPE", "STATE", "UP", "QUEUED", "INFLIGHT", "DELIVERED", "RETRIED", "FAILED", "DEAD"}, func(p *admin.Pool) (string, []string) {
			up := 0
			for _, m := range p.Members {
				if m.State == "up" {
					up++
				}
			}
			return p.Name, []string{p.Name, p.Type, p.State, fmt.Sprintf("%d/%d", up, len(p.Members)), num(p.Queued), num(p.InFlight), digits(p.Delivered), digits(p.Retried), digits(p.Failed), num(p.DeadLetters)}
		}),
		kindOf("policies", "policy", "name", []string{"NAME", "PASSED", "REJECTED", "DROPPED"}, func(p *admin.Policy) (string, []string) {
			return p.Name, []string{p.Name, digits(p.Passed), digits(p.Rejected), digits(p.Dropped)}
		}),
		letters,
		kindOf("sources", "source", "name", []string{"NAME", "TYPE", "POOL", "FILTERS", "PENDING"}, func(s *admin.Source) (string, []string) {
			return s.Name, []string{s.Name, s.Type, dash(s.Pool), strings.Join(s.Filters, ","), num(s.Pending)}
		}),
		kindOf("taps", "tap", "id", []string{"ID", "BY", "WHERE", "TOPIC", "CLIENT", "PAYLOADS", "ENDS"}, func(t *admin.OpenTap) (string, []string) {
			return t.ID, []string{t.ID, t.By, dash(t.Where), dash(t.Topic), dash(t.Client), yes(t.Payload), "in " + time.Until(t.Until).Round(time.Second).String()}
		}),
	}
}

// findKind takes any of a kind's names.
func findKind(name string) (kind, error) {
	var known []string
	for _, k := range kinds() {
		if name == k.name || name == k.one || slices.Contains(k.aliases, name) {
			return k, nil
		}
		known = append(known, k.name)
	}
	return kind{}, usagef("unknown kind %q: %s", name, strings.Join(known, ", "))
}

// object is the path of one object of the kind.
func (k *kind) object(name string) (string, error) {
	if k.describe != nil {
		return k.describe(name)
	}
	return k.path + "/" + escape(name), nil
}

// letterPath makes a path of POOL/ID.
func letterPath(name string) (string, error) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", usagef("dead letter %q: want POOL/ID", name)
	}
	return "/api/v1/deadletters/" + escape(name[:i]) + "/" + escape(name[i+1:]), nil
}

// page is the API's list with its rows as they came.
type page struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next,omitempty"`
	Total *int              `json:"total,omitempty"`
}

// maxRows bounds what one command collects.
const maxRows = 1_000_000

// list reads rows until there are limit of them (0: all) or no more. Pages may be short while there are more.
func (k *kind) list(ctx context.Context, a *adminClient, query url.Values, limit int) (*page, error) {
	out := &page{Items: []json.RawMessage{}}
	for {
		want := admin.MaxPage
		if limit > 0 {
			want = min(want, limit-len(out.Items))
		}
		query.Set("limit", strconv.Itoa(want))
		var p page
		if _, err := a.get(ctx, k.path, query, &p); err != nil {
			return nil, err
		}
		out.Items, out.Next = append(out.Items, p.Items...), p.Next
		if out.Total == nil {
			out.Total = p.Total
		}
		if p.Next == "" || limit > 0 && len(out.Items) >= limit {
			return out, nil
		}
		if len(out.Items) > maxRows {
			return nil, fmt.Errorf("more than %d rows: use --where, or --limit and --cursor", maxRows)
		}
		query.Set("cursor", p.Next)
	}
}

// table makes a table of rows.
func (k *kind) table(rows []json.RawMessage) (table, error) {
	t := table{header: k.header}
	for _, raw := range rows {
		name, cells, err := k.row(raw)
		if err != nil {
			return t, err
		}
		for i := range cells {
			cells[i] = printable(cells[i])
		}
		t.names, t.rows = append(t.names, printable(name)), append(t.rows, cells)
	}
	return t, nil
}

// printable keeps what a client put into a name from being a command to a terminal.
func printable(s string) string {
	if !strings.ContainsFunc(s, control) {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

func control(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func digits(n uint64) string { return strconv.FormatUint(n, 10) }

// age is how long ago something was, in its two largest units at most.
func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(0, time.Since(t)).Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}
