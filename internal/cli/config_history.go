package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/windrose-edc/windrose/internal/admin"
	"github.com/windrose-edc/windrose/internal/app"
	"github.com/windrose-edc/windrose/internal/config"
)

// historyFlags find the history of a node.
type historyFlags struct {
	files *[]string
	dir   *string
}

func addHistoryFlags(c *cobra.Command) historyFlags {
	return historyFlags{configFlag(c), c.Flags().String("history", "", "folder of the history (default: history in node.data of the configuration, or without one in ./data or /var/lib/windrose)")}
}

// open finds and opens the history. A configuration that is broken still says where its data is.
func (f historyFlags) open() (*config.History, error) {
	dir := *f.dir
	if dir == "" {
		if len(*f.files) > 0 {
			dir = filepath.Join(dataOf(*f.files), "history")
		} else if dir = nearHistory(); dir == "" {
			return nil, usagef("no configuration: name it with -c, or the folder with --history")
		}
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("there is no history in %q: a node that runs with this configuration makes one; --history names another folder", dir)
	}
	return config.OpenHistory(dir, 0)
}

// complete offers the revisions, the newest first.
func (f historyFlags) complete(_ *cobra.Command, args []string, prefix string) (out []string, d cobra.ShellCompDirective) {
	d = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	if len(args) > 0 {
		return nil, d
	}
	h, err := f.open()
	if err != nil {
		return nil, d
	}
	list, _ := h.List() // what cannot be read is not offered
	for _, r := range list {
		if strings.HasPrefix(r.Rev, prefix) && !slices.Contains(out, r.Rev) {
			out = append(out, r.Rev)
		}
	}
	return out, d
}

// nearHistory is the history of the node that other verbs ask when nothing is said: "" where there is none.
func nearHistory() string {
	for _, socket := range adminSockets {
		dir := filepath.Join(filepath.Dir(socket), "history")
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir
		}
	}
	return ""
}

// dataOf is node.data of a configuration, whatever else is wrong in it.
func dataOf(files []string) string {
	if snap, err := app.Load(files...); err == nil {
		return snap.Single("node").(*app.NodeSpec).Data
	}
	all, _ := yamlFiles(files) // what cannot be read says nothing
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		var doc map[string]any
		if yaml.Unmarshal(b, &doc) != nil {
			continue
		}
		node, _ := doc["node"].(map[string]any) // another shape says nothing
		data, _ := node["data"].(string)
		switch {
		case data == "":
		case filepath.IsAbs(data):
			return data
		default:
			return filepath.Join(filepath.Dir(name), data)
		}
	}
	return "data"
}

// revisionDoc is one revision as windrose config history prints it.
type revisionDoc struct {
	Rev     string    `json:"rev"`
	At      time.Time `json:"at"`
	How     string    `json:"how"`
	Current bool      `json:"current"`
	Invalid bool      `json:"invalid,omitempty"`
	Files   []string  `json:"files"`
}

func (e *env) configHistoryCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "history [REV]", Short: "List the configurations that a node has run, the newest first; with REV print one as it was written",
		Example: "  windrose config history -c windrose.yaml\n  windrose config history -c windrose.yaml 3f2a",
		Args:    e.args(cobra.MaximumNArgs(1), "at most one revision"),
	}
	f := addHistoryFlags(c)
	c.ValidArgsFunction = f.complete
	o := outputFlag(c)
	c.RunE = e.do(func(_ *cobra.Command, args []string) error {
		h, err := f.open()
		if err != nil {
			return err
		}
		if len(args) == 1 {
			return e.showRevision(h, args[0], o)
		}
		list, err := h.List()
		docs := make([]revisionDoc, 0, len(list))
		t := table{header: []string{"REVISION", "TIME", "HOW", "FILES"}}
		for i, r := range list {
			d := revisionDoc{Rev: r.Rev, At: r.At, How: r.How, Current: i == 0, Invalid: r.Invalid, Files: []string{}}
			for _, file := range r.Files {
				d.Files = append(d.Files, file.Name)
			}
			docs = append(docs, d)
			t.rows = append(t.rows, []string{r.Rev, r.At.Format(time.RFC3339), r.How, strings.Join(d.Files, " ")})
			t.names = append(t.names, r.Rev)
		}
		return errors.Join(o.print(e.out, docs, func() table { return t }), err)
	})
	return c
}

func (e *env) showRevision(h *config.History, rev string, o *output) error {
	r, err := h.Load(rev)
	if err != nil {
		return err
	}
	if r.Invalid {
		return fmt.Errorf("revision %s was never valid: a secret may be written out in it, so it is not shown; it is kept in the history's folder", r.Rev)
	}
	switch o.format {
	case "json", "yaml":
		return o.print(e.out, r, nil)
	case "name":
		_, err = fmt.Fprintln(e.out, r.Rev)
		return err
	}
	for i, f := range r.Files {
		if len(r.Files) > 1 {
			if i > 0 {
				fmt.Fprintln(e.out)
			}
			fmt.Fprintf(e.out, "# %s\n", f.Name)
		}
		if _, err := io.WriteString(e.out, f.Text); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return nil
}

func (e *env) configRollbackCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "rollback REV", Short: "Put the files of a revision back and have the node that runs take them over",
		Long: "The revision is checked first; what is there now becomes a revision too. A node that answers at the\n" +
			"socket or address of the revision, or at --admin, is told to reload. Exit code 5: the files are back, but the node did not take them over.",
		Example: "  windrose config rollback -c windrose.yaml 3f2a",
		Args:    e.args(cobra.ExactArgs(1), "one revision; windrose config history lists them"),
	}
	f := addHistoryFlags(c)
	c.ValidArgsFunction = f.complete
	ask := addAdminFlags(c)
	noReload := c.Flags().Bool("no-reload", false, "put the files back and tell no node")
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		h, err := f.open()
		if err != nil {
			return err
		}
		r, err := h.Load(args[0])
		if err != nil {
			return err
		}
		if r.Invalid {
			return fmt.Errorf("revision %s was never valid and is not put back", r.Rev)
		}
		snap, err := app.Schema().LoadWritten(r.Roots, r.Written())
		if err != nil {
			return err
		}
		if err := keepCurrent(h, r); err != nil {
			return err
		}
		if err := r.Restore(); err != nil {
			return err
		}
		// What was read is the text of the revision; building it needs the files that it names, which are read now.
		if err := app.Check(r.Roots...); err != nil {
			return &codedError{exitPartly, fmt.Errorf("revision %s is back in its files, but what it names has changed meanwhile: %w", r.Rev, err)}
		}
		if _, err := h.Record(snap, "rollback"); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "revision %s is back in %s\n", r.Rev, strings.Join(r.Roots, " "))
		if *noReload || !ask.nodeOf(snap.Single("node").(*app.NodeSpec)) {
			return nil
		}
		return e.reloadNode(cmd.Context(), ask)
	})
	return c
}

// keepCurrent makes a revision of what stands where r goes.
func keepCurrent(h *config.History, r *config.Revision) error {
	if snap, err := app.Load(r.Roots...); err == nil {
		_, err = h.Record(snap, "before rollback")
		return err
	}
	var written []config.WrittenFile
	for _, root := range r.Roots {
		files, err := yamlFiles([]string{root})
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			written = append(written, config.WrittenFile{Name: name, Data: b})
		}
	}
	_, err := h.RecordFiles(r.Roots, written, "before rollback", false)
	return err
}

// reloadNode tells a node to reload. Nobody answering is no error: there is no node to tell.
func (e *env) reloadNode(ctx context.Context, f *adminFlags) error {
	node, err := f.client()
	if err != nil {
		return err
	}
	var done admin.Reload
	_, err = node.do(ctx, http.MethodPost, "/api/v1/config/reload?how=rollback", "", nil, &done)
	var refused *net.OpError
	switch {
	case errors.As(err, &refused) && refused.Op == "dial":
		fmt.Fprintf(e.err, "no node answers at %s: the next start takes it over\n", node.where)
		return nil
	case err != nil:
		return &codedError{exitPartly, fmt.Errorf("the files are back, but the node at %s did not take them over: %w; windrose config reload tells it again", node.where, err)}
	case len(done.Restart) > 0:
		return &codedError{exitPartly, fmt.Errorf("the node at %s runs it but for what needs a restart: %s", node.where, strings.Join(done.Restart, "; "))}
	}
	fmt.Fprintf(e.out, "the node at %s runs it\n", node.where)
	return nil
}

// nodeOf fills in where the node of a configuration is asked: its socket, else node.admin.
func (f *adminFlags) nodeOf(s *app.NodeSpec) (known bool) {
	socket := s.SocketFile()
	switch info, err := os.Stat(socket); {
	case f.address != "":
	case err == nil && info.Mode()&os.ModeSocket != 0:
		f.address = "unix:" + socket
	default:
		f.address = s.Admin
	}
	return f.address != ""
}
