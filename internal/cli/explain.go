package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/app"
	"github.com/windrose-edc/windrose/internal/tap"
)

// explainMax bounds a payload that is read from a file.
const explainMax = 1 << 20

func (e *env) explainCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "explain -t TOPIC", Args: e.args(cobra.NoArgs, "no arguments; the event is described by flags"),
		Short: "Say what becomes of an event that is not sent: by a configuration (-c) or on a running node",
		Long: "Explain walks an event the way that a published one walks: the same policies, routes, subscribers and pools, of which\n" +
			"each says what it would do. Nothing is sent, kept, counted or taken from a limit.\n\n" +
			"With -c nothing needs to run: nobody has subscribed, and members of pools accept unless --assume says otherwise.\n" +
			"Without it the node at --admin answers, with the sessions, limits and queues that it has now.",
		Example: "  windrose explain -c windrose.yaml --as pump-7 -t site/berlin/pump-7/state --qos 1\n" +
			"  windrose explain --as pump-7 -t site/berlin/pump-7/state --qos 1 --assume north=unavailable",
	}
	files := configFlag(c)
	admin := addAdminFlags(c)
	q := tap.Question{Assume: map[string]string{}}
	f := c.Flags()
	f.StringVarP(&q.Topic, "topic", "t", "", "topic of the event, as its client says it (required)")
	f.StringVar(&q.Protocol, "protocol", "mqtt", "protocol that the client speaks")
	f.StringVar(&q.Version, "version", "", "version of the protocol, for the words of the answer: 3.1, 3.1.1 or 5 (default 5)")
	f.StringVar(&q.Listener, "listener", "", "listener where the client is connected (default: the first of the protocol)")
	f.StringVar(&q.Client, "as", "explain", "client that publishes; where it has a session on the node, its identity is that of the session")
	f.StringVar(&q.User, "user", "", "name of its principal")
	f.StringToStringVar(&q.Attrs, "attr", nil, "attributes of its principal, NAME=VALUE")
	f.StringVar(&q.Address, "address", "", "address that it comes from, without port")
	f.IntVarP(&q.QoS, "qos", "q", 0, "promise that the client asks for: 0, 1 or 2")
	f.BoolVarP(&q.Retain, "retain", "r", false, "the client wants the event kept")
	f.StringVarP(&q.Payload, "payload", "m", "", "payload of the event")
	file := f.String("payload-file", "", "file with the payload, - is stdin")
	f.StringVar(&q.ContentType, "content-type", "", "content type of the payload")
	f.StringToStringVar(&q.Assume, "assume", nil, "what members of a pool answer, POOL=OUTCOME: accepted, unavailable, bad_payload, ...; * is every pool")
	o := outputFlag(c)
	c.RunE = e.do(func(cmd *cobra.Command, _ []string) error {
		if q.Topic == "" {
			return usagef("no topic: name it with -t")
		}
		if *file != "" {
			if q.Payload != "" {
				return usagef("--payload and --payload-file: want one of them")
			}
			b, err := e.payloadFile(*file)
			if err != nil {
				return err
			}
			if utf8.Valid(b) {
				q.Payload = string(b)
			} else {
				q.PayloadBase64 = b
			}
		}
		if _, _, err := q.Event(); err != nil {
			return usagef("%w", err)
		}
		var rec tap.Record
		var err error
		switch {
		case len(*files) > 0 && cmd.Flags().Changed("admin"):
			return usagef("-c and --admin: want a configuration or a running node")
		case len(*files) > 0:
			rec, err = app.Explain(cmd.Context(), q, *files...)
		default:
			var node *adminClient
			if node, err = admin.client(); err != nil {
				return err
			}
			_, err = node.do(cmd.Context(), http.MethodPost, "/api/v1/explain", "", q, &rec)
			err = asksWrong(err)
		}
		if err != nil {
			return err
		}
		if o.format == "table" {
			_, err := io.WriteString(e.out, rec.Path())
			return err
		}
		return o.print(e.out, rec, func() table { return table{names: []string{rec.Outcome}} })
	})
	return c
}

func (e *env) payloadFile(name string) ([]byte, error) {
	r := e.in
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the file that the user named
		if err != nil {
			return nil, fmt.Errorf("read the payload: %w", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, explainMax+1))
	if err != nil {
		return nil, fmt.Errorf("read the payload: %w", err)
	}
	if len(b) > explainMax {
		return nil, fmt.Errorf("read the payload: %s has more than %d bytes", name, explainMax)
	}
	return b, nil
}

// asksWrong makes an error of usage of what the node says is wrong with the question.
func asksWrong(err error) error {
	var e *apiError
	if errors.As(err, &e) && e.Status == http.StatusUnprocessableEntity {
		return usagef("%w", err)
	}
	return err
}
