package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/windrose-edc/windrose/internal/observe"
)

// Log is the document of /api/v1/log.
type Log struct {
	Format     string                   `json:"format" enum:"text,json" doc:"How a line is written."`
	Level      string                   `json:"level" enum:"debug,info,warn,error" doc:"The level of components without one of their own."`
	Components []observe.ComponentLevel `json:"components" doc:"All components, sorted, with the level in effect."`
}

type logInput struct {
	Body struct {
		Component string `json:"component,omitempty" doc:"Whose level; without it that of all components that have none of their own."`
		Level     string `json:"level,omitempty" enum:"debug,info,warn,error,default" doc:"The least level that is logged from now on; default gives a component the level of all again."`
		Format    string `json:"format,omitempty" enum:"text,json" doc:"How lines are written from now on."`
	}
}

// registerLog adds what changes the log while the node runs. Without Options.Logs there is nothing to change.
func (s *Server) registerLog() {
	if s.o.Logs == nil {
		return
	}
	document(s, operation{id: "get-log", path: "/api/v1/log", group: "node", summary: "Format and levels of the log",
		doc: "The levels in effect, by component."}, s.logDoc)
	register(s, operation{id: "change-log", method: http.MethodPatch, path: "/api/v1/log", group: "node", role: Operator, errors: []int{http.StatusNotFound},
		summary: "Change a level or the format of the log",
		doc:     "Holds until the configuration is loaded again or the node ends; the configuration itself is not changed."}, s.changeLog)
}

func (s *Server) logDoc() Log {
	return Log{s.o.Logs.Format(), s.o.Logs.Level(), s.o.Logs.Levels()}
}

func (s *Server) changeLog(ctx context.Context, in *logInput) (*answer[Log], error) {
	b := in.Body
	switch {
	case b.Level == "" && b.Format == "":
		return nil, huma.Error422UnprocessableEntity("nothing to change: say level or format")
	case b.Level == "" && b.Component != "":
		return nil, huma.Error422UnprocessableEntity("a component needs a level")
	case b.Level == "default" && b.Component == "":
		return nil, huma.Error422UnprocessableEntity("default is the level of a component; say which")
	}
	if b.Level != "" {
		level := b.Level
		if level == "default" {
			level = ""
		}
		if err := s.o.Logs.Set(b.Component, level); err != nil {
			return nil, huma.Error404NotFound(err.Error())
		}
	}
	if b.Format != "" {
		if err := s.o.Logs.SetFormat(b.Format); err != nil {
			return nil, huma.Error422UnprocessableEntity(err.Error())
		}
	}
	s.log.Info("the log is changed", "by", callerOf(ctx).Name, "of", b.Component, "level", b.Level, "format", b.Format)
	return &answer[Log]{s.logDoc()}, nil
}
