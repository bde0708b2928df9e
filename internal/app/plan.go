package app

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/listen"
	"github.com/windrose-edc/windrose/internal/pool"
)

// fate is what becomes of a part when a configuration takes the place of another.
type fate uint8

const (
	starts  fate = iota // it was not there
	keeps               // the same instance goes on
	changes             // another instance takes its place
	ends                // it is not there any more
)

var fateWords = [...]string{starts: "start", keeps: "keep", changes: "change", ends: "end"}

// Plan is what a reload does, or would do.
type Plan = admin.Plan

// plan is a Plan with the fates by which the reload builds its graph: the same that its steps tell. Immutable once it is made,
// except for what counted adds to the steps.
type plan struct {
	*Plan
	fates map[config.Ref]fate
}

// Diff says what becomes of a node that runs from when to takes its place, without counts.
func Diff(from, to *config.Snapshot) *Plan { return newPlan(from, to, nodeSpec(from), nil, nil).Plan }

func nodeSpec(s *config.Snapshot) *NodeSpec { return s.Single("node").(*NodeSpec) }

// newPlan compares two snapshots; from is nil at the start. boot is what the node was started with: that alone decides about
// what needs a restart. was and is are the digests of the files that pools name, where they are known.
func newPlan(from, to *config.Snapshot, boot *NodeSpec, was, is digests) *plan {
	p := &plan{&Plan{To: to.Hash(), Steps: []admin.Step{}}, map[config.Ref]fate{}}
	if from == nil {
		return p
	}
	p.From = from.Hash()
	olds, news := keysOf(from, was), keysOf(to, is)
	for ref, key := range news {
		switch old, there := olds[ref]; {
		case !there:
			p.fates[ref] = starts
		case old == key:
			p.fates[ref] = keeps
		default:
			p.fates[ref] = changes
		}
	}
	for ref := range olds {
		if _, there := news[ref]; !there {
			p.fates[ref] = ends
		}
	}
	told := map[config.Ref]bool{}
	for _, c := range config.Diff(from, to) {
		told[config.Ref{Section: c.Section, Name: c.Name}] = true
		p.step(&c)
	}
	for _, section := range []string{"listeners", "pools", "sources"} {
		for _, e := range to.Entries(section) {
			ref := config.Ref{Section: section, Name: e.Name}
			if p.fates[ref] == changes && !told[ref] {
				p.step(&config.Change{Op: config.Changed, Section: section, Kind: e.Kind, Name: e.Name, Old: find(from, ref), New: &e})
			}
		}
	}
	p.nodeSteps("node", reflect.ValueOf(boot).Elem(), reflect.ValueOf(nodeSpec(from)).Elem(), reflect.ValueOf(nodeSpec(to)).Elem())
	return p
}

func find(s *config.Snapshot, ref config.Ref) *config.Entry {
	for _, e := range s.Entries(ref.Section) {
		if e.Name == ref.Name {
			return &e
		}
	}
	return nil
}

// keysOf gives each part of the sections that hold instances its key: what it was made of, including what its neighbours
// give it. An instance goes on exactly when its key does.
func keysOf(s *config.Snapshot, files digests) map[config.Ref]string {
	out := map[config.Ref]string{}
	sources := s.Entries("sources")
	deadline := nodeSpec(s).Deadline.String()
	receive := fmt.Sprint(s.Single("sessions").(*SessionSpec).Receive)
	for _, e := range s.Entries("listeners") {
		out[config.Ref{Section: "listeners", Name: e.Name}] = e.Kind + e.Hash + receive
	}
	for _, e := range s.Entries("pools") {
		key := e.Kind + e.Hash + deadline + files[config.Ref{Section: "pools", Name: e.Name}]
		for _, src := range sources { // a source receives by the connections of its pool
			if slices.Contains(src.Refs, config.Ref{Section: "pools", Name: e.Name}) {
				key += src.Hash
			}
		}
		out[config.Ref{Section: "pools", Name: e.Name}] = key
	}
	for _, e := range sources {
		key := e.Kind + e.Hash
		for _, ref := range e.Refs {
			key += out[ref]
		}
		out[config.Ref{Section: "sources", Name: e.Name}] = key
	}
	return out
}

// step adds what one difference means.
func (p *plan) step(c *config.Change) {
	s := admin.Step{Section: c.Section, Kind: c.Kind, Name: c.Name}
	switch c.Op {
	case config.Added:
		s.Action = fateWords[starts]
	case config.Removed:
		s.Action = fateWords[ends]
	case config.Changed, config.Replaced, config.Reordered:
		s.Action = fateWords[changes]
	}
	for _, f := range c.Fields {
		s.Changes = append(s.Changes, fieldWords(f))
	}
	name := strings.TrimSuffix(c.Section, "s") + " " + c.Name
	switch c.Section {
	case "node":
		return // see nodeSteps
	case "listeners":
		s.Text = listenerWords(c)
	case "pools":
		s.Text = poolWords(c)
	case "sources":
		s.Text = map[string]string{
			"start": name + " starts", "end": name + " ends; its brokers keep what it has not acknowledged",
			"change": name + " is made anew; its brokers send again what it has not acknowledged"}[s.Action]
	case "tls":
		s.Text = "tls " + c.Name + ": new handshakes use it; connections stay"
		if s.Action == "end" {
			s.Text = "tls " + c.Name + " is no longer used"
		}
	case "auth":
		s.Text = c.String() + "; it decides about new connections, those that are open stay"
		s.Changes = nil
	case "sets", "devices":
		s.Text = c.String() + "; from the next event of each client on"
		s.Changes = nil
	case "acl", "limits", "topics", "rewrites":
		s.Text = c.String() + "; from the next event and subscription on"
		s.Changes = nil
	case "routes":
		s.Text = c.String() + "; from the next event on"
		s.Changes = nil
	case "sessions":
		s.Text = c.String() + "; from now on, windows and quotas of connections that are open stay"
		s.Changes = nil
	case "retained", "log", "secrets", "attrs":
		s.Text, s.Changes = c.String(), nil
	default:
		s.Action, s.Text, s.Changes = admin.ActionRestart, c.String()+"; needs a restart", nil
	}
	p.Steps = append(p.Steps, s)
}

func fieldWords(f config.FieldChange) string {
	switch {
	case f.Old == "":
		return f.Path + " is now " + f.New
	case f.New == "":
		return f.Path + " is no longer " + f.Old
	}
	return f.Path + " " + f.Old + " becomes " + f.New
}

func listenerWords(c *config.Change) string {
	switch c.Op {
	case config.Added:
		return "listener " + c.Name + " opens on " + bindOf(c.New)
	case config.Removed:
		return "listener " + c.Name + " closes"
	case config.Replaced:
		return "listener " + c.Name + " closes, and one of that name opens for " + c.Kind + " on " + bindOf(c.New)
	case config.Changed, config.Reordered:
	}
	if o, n := bindOf(c.Old), bindOf(c.New); o != n {
		return "listener " + c.Name + " moves from " + o + " to " + n + "; connections stay"
	}
	return "listener " + c.Name + " keeps its port open; connections stay as they are, new ones get what changed"
}

func poolWords(c *config.Change) string {
	switch c.Op {
	case config.Added:
		return "pool " + c.Name + " starts"
	case config.Removed:
		return "pool " + c.Name + " ends: it delivers what it holds for at most " + drainOf(c.Old) + ", then makes dead letters of the rest"
	case config.Replaced, config.Changed, config.Reordered:
	}
	return "pool " + c.Name + " is made anew: it takes over queue and dead letters, in order, once what is in flight is answered (at most " + drainOf(c.Old) + ")"
}

func bindOf(e *config.Entry) string {
	if s := specOfListener(e); s != nil {
		return s.Bind
	}
	return "an address"
}

// specOfListener is what all kinds of listeners have in common: an embedded listen.Spec.
func specOfListener(e *config.Entry) *listen.Spec {
	v := reflect.ValueOf(e.Spec)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil
	}
	for i := range v.Elem().NumField() {
		if s, ok := v.Elem().Field(i).Addr().Interface().(*listen.Spec); ok {
			return s
		}
	}
	return nil
}

func drainOf(e *config.Entry) string {
	if s, ok := e.Common.(*pool.Spec); ok {
		return s.Drain.String()
	}
	return "its drain time"
}

// nodeSteps adds the keys of section node that differ: those that need a restart from what the node was started with, the
// others from what it has now.
func (p *plan) nodeSteps(path string, boot, from, to reflect.Value) {
	for i := range to.NumField() {
		f := to.Type().Field(i)
		key := path + "." + f.Tag.Get("yaml")
		if f.Type.Kind() == reflect.Struct {
			p.nodeSteps(key, boot.Field(i), from.Field(i), to.Field(i))
			continue
		}
		old, what := from, fateWords[changes]
		if f.Tag.Get("restart") == "true" {
			old, what = boot, admin.ActionRestart
		}
		o, n := old.Field(i).Interface(), to.Field(i).Interface()
		if reflect.DeepEqual(o, n) {
			continue
		}
		s := admin.Step{Section: "node", Action: what, Text: fmt.Sprintf("%s %v becomes %v", key, quoteEmpty(o), quoteEmpty(n))}
		if what == admin.ActionRestart {
			s.Text += ": needs a restart"
		}
		p.Steps = append(p.Steps, s)
	}
}

func quoteEmpty(v any) any {
	if s, ok := v.(string); ok && s == "" {
		return `""`
	}
	return v
}
