package admin

import (
	"bytes"
	"context"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/windrose-edc/windrose/internal/observe"
	"github.com/windrose-edc/windrose/internal/tap"
)

//go:generate go test . -run TestOpenAPIIsCurrent -update

var update = flag.Bool("update", false, "write the reference instead of comparing it")

const openAPI = "../../docs/reference/openapi.yaml"

// newWholeServer has every operation.
func newWholeServer(t *testing.T) *Server {
	t.Helper()
	hub, err := tap.New(tap.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Node: newFakeNode(), Operable: wholeNode{}, Logs: &observe.Logs{}, Tap: hub, Version: "v1",
		Explain: func(context.Context, tap.Question) (tap.Record, error) { return tap.Record{}, nil }})
}

// wholeNode has every ability that a node may have; they are not asked.
type wholeNode struct{ Operable }

func TestOpenAPIIsCurrent(t *testing.T) {
	b, err := newWholeServer(t).api.OpenAPI().YAML()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(openAPI, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(openAPI)
	if err != nil || !bytes.Equal(was, b) {
		t.Errorf("%s is not what the operations say (%v): go generate ./internal/admin", openAPI, err)
	}
}

// TestEveryOperationIsDocumented: words for people, a heading, documented parameters and bodies, and who may ask.
func TestEveryOperationIsDocumented(t *testing.T) {
	s := newWholeServer(t)
	ids := map[string]bool{}
	for path, item := range s.api.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op == nil {
				continue
			}
			name := method + " " + path
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" || len(op.Description) < 20 || len(op.Tags) != 1 || op.Tags[0] == "" {
				t.Errorf("%s: id %q, summary %q, description %q, heading %v", name, op.OperationID, op.Summary, op.Description, op.Tags)
			}
			ids[op.OperationID] = true
			need, ok := s.need[name]
			if !ok || need.role == None || method != "GET" && need.role == Viewer && op.OperationID != "explain-event" && op.OperationID != "check-config" && op.OperationID != "plan-config" {
				t.Errorf("%s: who may ask? %v %v", name, need, ok)
			}
			for _, p := range op.Parameters {
				if p.Description == "" {
					t.Errorf("%s: parameter %s has no doc", name, p.Name)
				}
			}
			for _, code := range []string{"401", "403", "503"} {
				if op.Responses[code] == nil {
					t.Errorf("%s: answer %s is not in the reference", name, code)
				}
			}
			if !slices.ContainsFunc([]string{"200", "202", "204"}, func(code string) bool { return op.Responses[code] != nil }) {
				t.Errorf("%s: no success", name)
			}
		}
	}
	if len(ids) < 25 {
		t.Errorf("only %d operations", len(ids))
	}
}
