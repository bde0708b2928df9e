package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/config"
)

// planner is a node that says which files it was asked about. Owned by the test.
type planner struct {
	Operable
	roots []string
	files []config.WrittenFile
}

func (p *planner) PlanReload(context.Context) (*Plan, error) { return &Plan{Steps: []Step{}}, nil }

func (p *planner) PlanFiles(_ context.Context, roots []string, files []config.WrittenFile) (*Plan, error) {
	p.roots, p.files = roots, files
	return &Plan{Steps: []Step{}}, nil
}

func (*planner) LastReload() (last, applied *Reload) { return nil, nil }
func (*planner) Draining() Drain                     { return Drain{} }

// namedNode is a node whose configuration was named like that.
type namedNode struct {
	*fakeNode
	file string
}

func (n namedNode) Info() Info {
	i := n.fakeNode.Info()
	i.Config = []string{n.file}
	return i
}

func askDiff(t *testing.T, node Node, p *planner, role Role, body string) int {
	t.Helper()
	h := httptest.NewServer(New(Options{Node: node, Operable: p, Loopback: role}).Handler())
	defer h.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL+"/api/v1/config/diff", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// The files of a question may name any file and any variable of the environment of the node.
func TestDiffWithFilesIsForAdmins(t *testing.T) {
	const files = `{"roots":["/etc/x.yaml"],"files":[{"name":"/etc/x.yaml","text":"windrose: v1\nnode: { site: \"${env.HOME}\" }\n"}]}`
	node := namedNode{newFakeNode(), "/etc/windrose.yaml"}
	for _, c := range []struct {
		role Role
		body string
		want int
	}{
		{Viewer, `{}`, http.StatusForbidden},
		{Operator, `{}`, http.StatusOK},
		{Operator, files, http.StatusForbidden},
		{Admin, files, http.StatusOK},
	} {
		p := &planner{}
		if got := askDiff(t, node, p, c.role, c.body); got != c.want {
			t.Errorf("%v %s: status %d, want %d", c.role, c.body, got, c.want)
		}
		if asked := len(p.files) > 0; asked != (c.role == Admin) {
			t.Errorf("%v %s: the node was asked: %v", c.role, c.body, asked)
		}
	}
}

// A node that was started with -c windrose.yaml has relative paths: the same file with its absolute name is no difference.
func TestDiffNamesFilesAsTheNodeDoes(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	abs := filepath.ToSlash(filepath.Join(dir, "etc", "windrose.yaml"))
	body := `{"roots":["` + abs + `"],"files":[{"name":"` + abs + `","text":"windrose: v1\n"}]}`
	for own, want := range map[string]string{"windrose.yaml": filepath.Join("etc", "windrose.yaml"), abs: abs} {
		p := &planner{}
		if got := askDiff(t, namedNode{newFakeNode(), own}, p, Admin, body); got != http.StatusOK {
			t.Fatalf("status %d", got)
		}
		if p.files[0].Name != want || p.roots[0] != want {
			t.Errorf("a node of %s was asked about %s in %s, want %s", own, p.files[0].Name, p.roots[0], want)
		}
	}
}
