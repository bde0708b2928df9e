package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/expr/sets"
	"github.com/windrose-edc/windrose/internal/expr/when"
	"github.com/windrose-edc/windrose/internal/policy"
)

// setEvery is how often the files of sets are looked at.
const setEvery = time.Second

// buildSets reads the named sets, files included: new instances, so that nothing of what works now changes before the graph
// comes into force.
func (g *graph) buildSets() error {
	var list []*sets.Set
	for _, e := range g.snap.Entries("sets") {
		var s *sets.Set
		var f sets.File
		var err error
		switch spec := e.Spec.(type) {
		case *sets.Spec:
			kinds := map[string]sets.Kind{"strings": sets.Strings, "cidrs": sets.CIDRs, "topics": sets.Topics}
			s, f, err = spec.Open(e.Name, kinds[e.Kind])
		case *sets.MapSpec:
			s, f, err = spec.Open(e.Name)
		}
		if err != nil {
			return &config.Error{File: e.Pos.File, Line: e.Pos.Line, Col: e.Pos.Col, Path: "sets." + e.Name, Msg: err.Error()}
		}
		list = append(list, s)
		if f.Path != "" {
			g.setFiles = append(g.setFiles, f)
		}
	}
	var err error
	if g.sets, err = sets.New(list...); err != nil {
		return err
	}
	g.conditions = when.NewCompiler(g.sets, g.limited.For("policy"), g.metrics)
	return nil
}

// checkConditions compiles every condition, so that all that is wrong is said at once. What is built afterwards finds them
// compiled.
func (g *graph) checkConditions() error {
	var wrong config.Errors
	var other []error
	note := func(err error) {
		var errs config.Errors
		switch {
		case err == nil:
		case errors.As(err, &errs):
			wrong = append(wrong, errs...)
		default:
			other = append(other, err)
		}
	}
	for i, section := range []string{"devices", "acl", "rewrites", "routes"} {
		for n, e := range g.snap.Entries(section) {
			var err error
			switch i {
			case 0:
				_, err = e.Spec.(*policy.DeviceSpec).Condition(g.conditions, e.Name)
			case 1:
				_, err = e.Spec.(*policy.ACLSpec).Condition(g.conditions, n+1)
			case 2:
				_, err = e.Spec.(*policy.RewriteSpec).Condition(g.conditions)
			case 3:
				_, err = e.Spec.(*RouteSpec).condition(g.conditions)
			}
			note(err)
		}
	}
	if len(wrong) > 0 {
		return wrong.Sorted()
	}
	return errors.Join(other...)
}

// buildClasses makes the device classes. Where there are none now and were none before, nobody is classified again.
func (g *graph) buildClasses() error {
	of := uint64(1)
	entries := g.snap.Entries("devices")
	if g.prev != nil {
		if len(entries) == 0 && len(g.prev.snap.Entries("devices")) == 0 {
			g.classes = g.prev.classes
			return nil
		}
		of = g.prev.classes.Number() + 1
	}
	g.classes = policy.NewClasses(of)
	for _, e := range entries {
		s := e.Spec.(*policy.DeviceSpec)
		w, err := s.Condition(g.conditions, e.Name)
		if err != nil {
			return err
		}
		if err := g.classes.Add(e.Name, s.Attrs, w); err != nil {
			return fmt.Errorf("devices.%s: %w", e.Name, err)
		}
	}
	return nil
}

func (n *node) classes() *policy.Classes { return n.live.Load().classes }

// startSets watches the files of a graph's sets, in place of those of the graph before.
func (a *App) startSets(g *graph) {
	a.setPart.end()
	a.setPart = nil
	if len(g.setFiles) == 0 {
		return
	}
	a.setPart = a.parts.run(stopSources, "sets", func(ctx context.Context) error {
		sets.Watch(ctx, g.setFiles, setEvery, g.logFor("policy"))
		return nil
	})
}
