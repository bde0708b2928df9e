package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/admin"
)

func (e *env) deadLettersCommand() *cobra.Command {
	c := e.group("deadletters", "Look at dead letters, deliver them again or delete them: ls, show, replay, purge",
		e.lettersListCommand(), e.lettersShowCommand(), e.lettersReplayCommand(), e.lettersPurgeCommand())
	c.Long = "Dead letters are events that were acknowledged and could not be delivered. A pool keeps its own; those that were\n" +
		"in a client's outbox are kept under " + admin.SessionLetters + "."
	c.Example = "  windrose deadletters ls north\n  windrose deadletters replay north --all"
	return c
}

func (e *env) lettersListCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "ls [POOL]", Aliases: []string{"list"}, Short: "List dead letters, the newest first",
		Example: "  windrose deadletters ls\n  windrose deadletters ls north --where 'reason == \"expired\"' --limit 0 -o json",
		Args:    e.args(cobra.MaximumNArgs(1), "at most one pool"), ValidArgsFunction: e.completePools,
	}
	f := addAdminFlags(c)
	o := outputFlag(c)
	where := c.Flags().String("where", "", "only rows for which this CEL condition holds")
	limit := c.Flags().Int("limit", 100, "rows at most; 0: all")
	cursor := c.Flags().String("cursor", "", "go on where an earlier list ended")
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		q := url.Values{}
		for key, v := range map[string]string{"where": *where, "cursor": *cursor} {
			if v != "" {
				q.Set(key, v)
			}
		}
		if len(args) > 0 {
			q.Set("pool", args[0])
		}
		a, err := f.client()
		if err != nil {
			return err
		}
		k, err := findKind("deadletters")
		if err != nil {
			return err
		}
		p, err := k.list(cmd.Context(), a, q, *limit)
		if err != nil {
			return e.apiFailed(err)
		}
		if err := e.printRows(&k, p, p.Items, o); err != nil {
			return err
		}
		if p.Next != "" && o.format == "table" {
			fmt.Fprintf(e.err, "%d shown; more: --limit 0, or --cursor %s\n", len(p.Items), p.Next)
		}
		return nil
	})
	return c
}

func (e *env) lettersShowCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "show POOL/ID", Short: "Show a dead letter with its metadata", Example: "  windrose deadletters show north/17 --payload",
		Args: e.args(cobra.ExactArgs(1), "POOL/ID, as ls shows it"),
	}
	f := addAdminFlags(c)
	o := outputFlag(c)
	payload := c.Flags().Bool("payload", false, "show the payload too (role operator)")
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		a, err := f.client()
		if err != nil {
			return err
		}
		path, err := letterPath(args[0])
		if err != nil {
			return err
		}
		q := url.Values{}
		if *payload {
			q.Set("payload", "true")
		}
		var raw json.RawMessage
		if _, err := a.get(cmd.Context(), path, q, &raw); err != nil {
			return err
		}
		k, err := findKind("deadletters")
		if err != nil {
			return err
		}
		return e.describe(&k, raw, o)
	})
	return c
}

func (e *env) lettersReplayCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "replay POOL (ID... | --all)", Short: "Deliver dead letters again, behind the events that wait (exit code 5: not all)",
		Example: "  windrose deadletters replay north 17 18\n  windrose deadletters replay north --all",
		Args:    e.args(cobra.MinimumNArgs(1), "a pool"), ValidArgsFunction: e.completePools,
	}
	return e.lettersWrite(c, "replay", "delivered again")
}

func (e *env) lettersPurgeCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "purge POOL (ID... | --all)", Short: "Delete dead letters: their events are gone",
		Long: "Deletes dead letters. With --all those that are there when the command begins: when others come meanwhile, nothing is\n" +
			"deleted and the command says so.",
		Example: "  windrose deadletters purge north 17 18\n  windrose deadletters purge north --all",
		Args:    e.args(cobra.MinimumNArgs(1), "a pool"), ValidArgsFunction: e.completePools,
	}
	return e.lettersWrite(c, "purge", "deleted")
}

// lettersWrite makes a verb that does something to dead letters.
func (e *env) lettersWrite(c *cobra.Command, verb, done string) *cobra.Command {
	f := addAdminFlags(c)
	all := c.Flags().Bool("all", false, "all dead letters of the pool")
	c.RunE = e.do(func(cmd *cobra.Command, args []string) error {
		ids := []uint64{}
		for _, s := range args[1:] {
			id, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				return usagef("dead letter %q: want a number", s)
			}
			ids = append(ids, id)
		}
		if *all == (len(ids) > 0) {
			return usagef("name dead letters, or say --all")
		}
		a, err := f.client()
		if err != nil {
			return err
		}
		tag := ""
		if *all {
			if tag, err = a.get(cmd.Context(), "/api/v1/deadletters", url.Values{"pool": {args[0]}, "limit": {"1"}}, nil); err != nil {
				return err
			}
		}
		var total int
		for {
			part := ids[:min(len(ids), admin.MaxLetters)]
			ids = ids[len(part):]
			var d admin.LettersDone
			body := map[string]any{}
			if len(part) > 0 {
				body["ids"] = part
			}
			if _, err := a.do(cmd.Context(), http.MethodPost, "/api/v1/deadletters/"+escape(args[0])+"/"+verb, tag, body, &d); err != nil {
				return partly(total, []error{err})
			}
			total += d.Done
			if d.Stopped != "" || !*all && d.Done < len(part) {
				fmt.Fprintf(e.out, "%s %s\n", count(total, "dead letter"), done)
				if d.Stopped == "" {
					d.Stopped = "some of them are not there"
				}
				return partly(total, []error{fmt.Errorf("not all: %s", d.Stopped)})
			}
			if len(ids) == 0 {
				break
			}
		}
		fmt.Fprintf(e.out, "%s %s\n", count(total, "dead letter"), done)
		return nil
	})
	return c
}
