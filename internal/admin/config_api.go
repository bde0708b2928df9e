package admin

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/windrose-edc/windrose/internal/config"
)

// Operable is a node that can be told to take another configuration and to let go of its clients. All methods are safe for
// concurrent use.
type Operable interface {
	// Reload reads the files of the node again; one waits for the other. how is a word for the log and the history.
	Reload(how string) *Reload
	// PlanReload says what Reload would do now.
	PlanReload(ctx context.Context) (*Plan, error)
	// PlanFiles says what a reload would do if these files were the node's; the error is config.Errors.
	PlanFiles(ctx context.Context, roots []string, files []config.WrittenFile) (*Plan, error)
	// LastReload is the last attempt, and the last that was in order.
	LastReload() (last, applied *Reload)
	StartDrain() error
	StopDrain() error
	Draining() Drain
}

// Plan is what a reload does, or would do: one step for each part that does not simply go on.
type Plan struct {
	From  string `json:"from,omitempty" doc:"Hash of the configuration that is replaced."`
	To    string `json:"to" doc:"Hash of the new configuration."`
	Steps []Step `json:"steps" nullable:"false" doc:"What happens, in the order of the configuration's sections."`
}

// Step is what happens to one part.
type Step struct {
	Section string   `json:"section"`
	Kind    string   `json:"kind,omitempty"`
	Name    string   `json:"name,omitempty"`
	Action  string   `json:"action" enum:"start,change,end,restart" doc:"restart: the change has no effect before the node is started again."`
	Text    string   `json:"text" doc:"What happens, in words."`
	Changes []string `json:"changes,omitempty" doc:"The keys that differ, in words."`

	Connections *int `json:"connections,omitempty" doc:"Connections that are concerned; only of a running node."`
	Dropped     *int `json:"dropped,omitempty" doc:"Sessions that end with their connection."`
	Kept        *int `json:"kept,omitempty" doc:"Sessions that go on, or are kept for their clients' next connection."`
	Queued      *int `json:"queued,omitempty" doc:"Events that wait in the pool."`
}

// ActionRestart is the action of a step that has no effect before the node is started again.
const ActionRestart = "restart"

// Lines is the plan in words, one line for each step.
func (p *Plan) Lines() []string {
	out := make([]string, 0, len(p.Steps))
	for _, s := range p.Steps {
		line := s.Text
		for i, c := range s.Changes {
			line += map[bool]string{true: " (", false: "; "}[i == 0] + c
		}
		if len(s.Changes) > 0 {
			line += ")"
		}
		out = append(out, line)
	}
	return out
}

// Restart lists what has no effect before the node is started again.
func (p *Plan) Restart() (texts []string) {
	for _, s := range p.Steps {
		if s.Action == ActionRestart {
			texts = append(texts, s.Text)
		}
	}
	return texts
}

// Reload is what became of one attempt to bring a configuration into force. Immutable.
type Reload struct {
	OK       bool      `json:"ok" doc:"The configuration is in force."`
	How      string    `json:"how" doc:"What asked for it: start, signal, watch, api, rollback."`
	At       time.Time `json:"at"`
	Took     float64   `json:"took_seconds" doc:"From reading the files to the end of the swap."`
	Hash     string    `json:"hash,omitempty" doc:"Of the configuration that is in force now."`
	Revision string    `json:"revision,omitempty" doc:"Of that configuration in the history."`
	Plan     *Plan     `json:"plan,omitempty" doc:"What it did."`
	News     []string  `json:"news,omitempty" doc:"What files that the configuration names hold newly."`
	Restart  []string  `json:"restart,omitempty" doc:"What has no effect before the node is started again."`
	Error    string    `json:"error,omitempty" doc:"Why nothing was changed."`

	Err error `json:"-"` // config.Errors where the files are wrong
}

// Drain is what a node that drains is doing.
type Drain struct {
	State       string    `json:"state" enum:"serving,draining,drained,stopping"`
	Since       time.Time `json:"since,omitzero" doc:"Of the state."`
	Connections int       `json:"connections" doc:"Those that are still open."`
}

// ConfigState is the document of /api/v1/config.
type ConfigState struct {
	Hash    string   `json:"hash" doc:"Of the configuration in force; the ETag."`
	Applied *Reload  `json:"applied,omitempty" doc:"How it came into force."`
	Failed  *Reload  `json:"failed,omitempty" doc:"The last reload, where it failed: the configuration before it is in force."`
	Files   []string `json:"files" nullable:"false" doc:"Where it is read from."`
}

type configAnswer struct {
	ETag string `header:"ETag"`
	Body ConfigState
}

type reloadInput struct {
	IfMatch string `header:"If-Match" doc:"Hash of the configuration that is to be replaced."`
	How     string `query:"how" enum:"api,rollback" default:"api" doc:"A word for the log and the history."`
}

type diffInput struct {
	Body struct {
		Roots []string     `json:"roots,omitempty" doc:"Absolute paths of the files and folders that were named; paths in the files begin there."`
		Files []ConfigFile `json:"files,omitempty" doc:"The files with their content. None: those of the node as they are now."`
	}
}

// ConfigFile is one file of a configuration.
type ConfigFile struct {
	Name string `json:"name" doc:"Absolute path."`
	Text string `json:"text"`
}

// registerConfig adds what changes the configuration, and the drain. Without Options.Operable there is nothing to change.
func (s *Server) registerConfig() {
	o := s.o.Operable
	if o == nil {
		return
	}
	register(s, operation{id: "get-config", method: http.MethodGet, path: "/api/v1/config", group: "config", summary: "Which configuration is in force",
		doc: "And what became of the last attempt to replace it."},
		func(context.Context, *struct{}) (*configAnswer, error) {
			c := s.configState()
			return &configAnswer{quoteTag(c.Hash), c}, nil
		})
	register(s, operation{id: "reload-config", method: http.MethodPost, path: "/api/v1/config/reload", group: "config", role: Admin, summary: "Reload the configuration",
		doc:    "Reads the node's files again and brings them into force. What is wrong changes nothing and is an error that names each place.",
		errors: []int{http.StatusConflict, http.StatusPreconditionFailed}},
		func(ctx context.Context, in *reloadInput) (*answer[*Reload], error) {
			if err := checkMatch(in.IfMatch, s.o.Node.Info().ConfigHash, false, nil); err != nil {
				return nil, err
			}
			s.log.Info("reload is asked for", "by", callerOf(ctx).Name)
			r := o.Reload(in.How)
			if r.Err != nil {
				return nil, configError(r.Err)
			}
			return &answer[*Reload]{r}, nil
		})
	register(s, operation{id: "diff-config", method: http.MethodPost, path: "/api/v1/config/diff", group: "config", role: Operator, summary: "What a reload would do",
		doc: "With the numbers of connections, sessions and events that are concerned now. Nothing is changed. With files in the body it needs the role admin."},
		func(ctx context.Context, in *diffInput) (*answer[*Plan], error) {
			plan, err := o.PlanReload, error(nil)
			if len(in.Body.Files) > 0 {
				// What is asked may name any file and any variable of the node's environment.
				if code, why := allowed(callerOf(ctx), Admin); code != 0 {
					return nil, huma.NewError(code, "other files than the node's: "+why)
				}
				local := asNamed(s.o.Node.Info().Config)
				roots := slices.Clone(in.Body.Roots)
				for i := range roots {
					roots[i] = local(roots[i])
				}
				plan = func(ctx context.Context) (*Plan, error) {
					return o.PlanFiles(ctx, roots, written(in.Body.Files, local))
				}
			}
			p, err := plan(ctx)
			if err != nil {
				return nil, configError(err)
			}
			return &answer[*Plan]{p}, nil
		})
	document(s, operation{id: "get-drain", path: "/api/v1/drain", group: "node", summary: "How far a drain is", doc: "serving: the node does not drain."}, o.Draining)
	for _, d := range []struct {
		operation
		do func() error
	}{
		{operation{id: "start-drain", method: http.MethodPost, path: "/api/v1/drain", group: "node", role: Operator, summary: "Let go of all clients",
			doc: "The node is not ready any more, opens no sessions, and closes its connections at the rate of node.drain.rate. Sessions stay, and so does the process."}, o.StartDrain},
		{operation{id: "stop-drain", method: http.MethodDelete, path: "/api/v1/drain", group: "node", role: Operator, status: http.StatusOK, summary: "Take clients again",
			doc: "Ends a drain wherever it is."}, o.StopDrain},
	} {
		d.errors = []int{http.StatusConflict}
		register(s, d.operation, func(ctx context.Context, _ *struct{}) (*answer[Drain], error) {
			s.log.Info("drain", "operation", d.id, "by", callerOf(ctx).Name)
			if err := d.do(); err != nil {
				return nil, huma.Error409Conflict(err.Error())
			}
			return &answer[Drain]{o.Draining()}, nil
		})
	}
}

// asNamed returns what makes a path relative to the working directory where the node's own files were named that way:
// then what they name has relative paths too, and an absolute path is no difference.
func asNamed(own []string) func(string) string {
	dir, err := os.Getwd()
	if err != nil || !slices.ContainsFunc(own, func(name string) bool { return !filepath.IsAbs(name) }) {
		return func(name string) string { return name }
	}
	return func(name string) string {
		if rel, err := filepath.Rel(dir, name); err == nil {
			return rel
		}
		return name
	}
}

func written(files []ConfigFile, local func(string) string) []config.WrittenFile {
	out := make([]config.WrittenFile, len(files))
	for i, f := range files {
		out[i] = config.WrittenFile{Name: local(f.Name), Data: []byte(f.Text)}
	}
	return out
}

// configState is which configuration is in force.
func (s *Server) configState() ConfigState {
	last, applied := s.o.Operable.LastReload()
	i := s.o.Node.Info()
	c := ConfigState{Hash: i.ConfigHash, Applied: applied, Files: append([]string{}, i.Config...)}
	if last != nil && !last.OK {
		c.Failed = last
	}
	return c
}

// configError is what is wrong in a configuration: one detail for each place.
func configError(err error) error {
	var wrong config.Errors
	if !errors.As(err, &wrong) {
		return huma.Error409Conflict(err.Error())
	}
	details := make([]error, 0, len(wrong))
	for _, w := range wrong {
		details = append(details, &huma.ErrorDetail{Message: w.Error(), Location: "body"})
	}
	return huma.Error422UnprocessableEntity("the configuration has errors; nothing was changed", details...)
}
