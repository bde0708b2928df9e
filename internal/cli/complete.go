package cli

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/admin"
)

// completeTime bounds what a shell waits for names, completeRows how many it is offered.
const (
	completeTime = 2 * time.Second
	completeRows = 100
)

// completeObjects offers kinds, then the names that the node has.
func (e *env) completeObjects(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		var out []string
		for _, k := range kinds() {
			for _, name := range append([]string{k.name, k.one}, k.aliases...) {
				if strings.HasPrefix(name, prefix) && (name == k.name || prefix != "") {
					out = append(out, name)
				}
			}
		}
		return slices.Compact(out), cobra.ShellCompDirectiveNoFileComp
	}
	k, err := findKind(args[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completeNames(cmd, &k, args[1:], prefix)
}

func (e *env) completeSessions(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	k, _ := findKind("sessions") // it is there
	return completeNames(cmd, &k, args, prefix)
}

func (e *env) completePools(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	k, _ := findKind("pools") // it is there
	return completeNames(cmd, &k, args, prefix)
}

// completeLevels offers the components of the node and the levels.
func (e *env) completeLevels(cmd *cobra.Command, args []string, prefix string) (out []string, d cobra.ShellCompDirective) {
	d = cobra.ShellCompDirectiveNoFileComp
	levels := []string{"debug", "info", "warn", "error"}
	switch len(args) {
	case 0:
		if a, err := askedNode(cmd); err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), completeTime)
			defer cancel()
			var l admin.Log
			if _, err := a.get(ctx, "/api/v1/log", nil, &l); err == nil {
				for _, c := range l.Components {
					out = append(out, c.Component)
				}
			}
		}
		out = append(out, levels...)
	case 1:
		out = append(levels, "default")
	}
	return slices.DeleteFunc(out, func(s string) bool { return !strings.HasPrefix(s, prefix) }), d
}

// askedNode is the node that the flags of a command that is being completed name.
func askedNode(cmd *cobra.Command) (*adminClient, error) {
	f := &adminFlags{timeout: completeTime}
	f.address, _ = cmd.Flags().GetString("admin")
	f.token, _ = cmd.Flags().GetString("token")
	f.ca, _ = cmd.Flags().GetString("admin-ca")
	f.insecure, _ = cmd.Flags().GetBool("admin-insecure")
	return f.client()
}

// completeNames asks the node for names that begin with prefix and were not given yet. What goes wrong offers nothing: a
// shell has no place for errors.
func completeNames(cmd *cobra.Command, k *kind, given []string, prefix string) ([]string, cobra.ShellCompDirective) {
	const only = cobra.ShellCompDirectiveNoFileComp
	a, err := askedNode(cmd)
	if err != nil {
		return nil, only
	}
	q := url.Values{}
	if k.id != "" && prefix != "" {
		q.Set("where", k.id+".startsWith("+quoteCEL(prefix)+")")
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeTime)
	defer cancel()
	p, err := k.list(ctx, a, q, completeRows)
	if err != nil {
		return nil, only
	}
	t, err := k.table(p.Items)
	if err != nil {
		return nil, only
	}
	return slices.DeleteFunc(t.names, func(n string) bool { return !strings.HasPrefix(n, prefix) || slices.Contains(given, n) }), only
}

// quoteCEL writes a text as a literal of CEL: that of JSON is one.
func quoteCEL(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return strconv.Quote(s)
	}
	return string(b)
}
