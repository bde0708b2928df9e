package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// maxHealth bounds what is read of a health document.
const maxHealth = 1 << 20

// healthDoc is the document of /readyz, as the admin server writes it.
type healthDoc struct {
	Status string        `json:"status"`
	Checks []healthCheck `json:"checks"`
}

type healthCheck struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Optional bool   `json:"optional,omitempty"`
	Text     string `json:"text,omitempty"`
}

func (c healthCheck) state() string {
	switch {
	case c.OK:
		return "ok"
	case c.Optional:
		return "degraded"
	}
	return "failed"
}

func (e *env) healthCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "health", Short: "Ask a node whether it is ready (exit code 4: it is not)", Args: e.args(cobra.NoArgs, "no arguments"),
		Example: "  windrose health\n  windrose health --admin 10.0.0.7:8400 -o json",
	}
	f := addAdminFlags(c)
	c.Flags().StringVar(&f.address, "addr", "", "the same as --admin")
	f.timeout = 3 * time.Second
	c.Flags().Lookup("timeout").DefValue = f.timeout.String()
	o := outputFlag(c)
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error {
		node, err := f.client()
		if err != nil {
			return err
		}
		doc, err := node.health(cmd.Context())
		if err != nil {
			return &codedError{exitUnhealthy, err}
		}
		if err := o.print(e.out, doc, doc.table); err != nil {
			return err
		}
		if doc.Status != "ok" {
			return &codedError{exitUnhealthy, fmt.Errorf("node at %s is not ready: %s", node.where, doc.reasons())}
		}
		return nil
	})
	return c
}

// adminURL makes a URL of an address.
func adminURL(addr string) (*url.URL, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil {
		return nil, errors.New("want host:port or http://host:port")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("want host:port or http://host:port")
	}
	if u.Hostname() == "" {
		u.Host = "127.0.0.1" + u.Host
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + "/readyz"
	return u, nil
}

// health asks whether the node is ready; that it is not is no error.
func (a *adminClient) health(ctx context.Context) (*healthDoc, error) {
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+"/readyz", nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.where, err)
	}
	req.Header.Set("Accept", "application/json")
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	res, err := a.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("ask %s: %w (is the node running, and is its admin address this one?)", a.where, err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxHealth))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.where, err)
	}
	doc := &healthDoc{}
	if json.Unmarshal(b, doc) != nil || doc.Status == "" {
		return nil, fmt.Errorf("ask %s: the answer (HTTP %d) is not of a Windrose node", a.where, res.StatusCode)
	}
	return doc, nil
}

func (d *healthDoc) table() table {
	t := table{header: []string{"CHECK", "STATE", "TEXT"}}
	for _, c := range d.Checks {
		t.rows = append(t.rows, []string{c.Name, c.state(), c.Text})
		t.names = append(t.names, c.Name)
	}
	t.rows = append(t.rows, []string{"ready", map[bool]string{true: "ok", false: "failed"}[d.Status == "ok"], ""})
	return t
}

func (d *healthDoc) reasons() string {
	var out []string
	for _, c := range d.Checks {
		if c.state() == "failed" {
			out = append(out, strings.TrimSuffix(c.Name+": "+c.Text, ": "))
		}
	}
	return strings.Join(out, "; ")
}
