package mqtt

import (
	"strings"
	"testing"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// talk is a client of a simulated node that speaks in the text of scripts. Owned by the test.
type talk struct {
	*simLink
	t       testing.TB
	version wire.Version
}

// talkTo opens a connection to the first loop of a node; nothing is said yet.
func talkTo(t testing.TB, n *simNode) *talk { return &talk{simLink: n.link(0), t: t, version: wire.V5} }

// says sends packets, separated by semicolons, lets the node do its work and returns what came back, one text per packet.
func (c *talk) says(packets string) []string {
	c.t.Helper()
	for text := range strings.SplitSeq(packets, " ; ") {
		b, err := packetOf(text, &c.version)
		if err != nil {
			c.t.Fatal(err)
		}
		c.send(b)
	}
	c.n.run()
	return c.hears()
}

// hears is what came since it was asked last.
func (c *talk) hears() (texts []string) {
	c.t.Helper()
	for len(c.got) > 0 {
		text, rest, ok := textOf(c.got, c.version)
		if !ok || strings.Contains(text, "MALFORMED") {
			c.t.Fatalf("not a packet: %x %s", c.got, text)
		}
		texts, c.got = append(texts, text), rest
	}
	return texts
}

// open connects and expects to be let in.
func (c *talk) open(connect string) *talk {
	c.t.Helper()
	if got := c.says(connect); len(got) == 0 || !strings.HasPrefix(got[0], "CONNACK 0") || strings.HasPrefix(got[0], "CONNACK 0") && c.ended {
		c.t.Fatalf("%s: %q, ended %v", connect, got, c.ended)
	}
	return c
}

// want compares what came with what should have; a text that ends with * is a beginning.
func want(t testing.TB, got []string, wants ...string) {
	t.Helper()
	ok := len(got) == len(wants)
	for i := 0; ok && i < len(got); i++ {
		head, cut := strings.CutSuffix(wants[i], "*")
		ok = got[i] == wants[i] || cut && strings.HasPrefix(got[i], head)
	}
	if !ok {
		t.Errorf("got %q\nwant %q", got, wants)
	}
}

// over says whether the server has ended the connection.
func (c *talk) over() bool { return c.ended }
