package guard

import (
	"go/token"
	"path"
	"slices"
	"testing"
)

// layers is docs/ARCHITECTURE.md, "Layers": imports run downwards only. The first pattern that matches counts.
var layers = []struct {
	pattern string
	layer   int
}{
	{"internal/event", 0},
	{"internal/loop", 1}, {"internal/listen", 1}, {"internal/dtls", 1}, {"internal/systemd", 1}, {"internal/clienttls", 1}, {"internal/ws", 1}, {"internal/cloudevents", 1}, {"internal/fabric", 1},
	{"internal/identity", 1}, {"internal/config", 1}, {"internal/observe", 1}, {"internal/observe/topk", 1}, {"internal/tap", 1},
	{"internal/expr", 1}, {"internal/expr/*", 1},
	{"internal/session", 2}, {"internal/policy", 2}, {"internal/route", 2}, {"internal/pool", 2}, {"internal/queue", 2},
	{"internal/retain", 2}, {"internal/journal", 2},
	{"internal/protocol/*", 3}, {"internal/protocol/*/wire", 3}, {"internal/destination/*", 3},
	{"internal/admin", 4}, {"internal/otlp", 4}, {"internal/fleet", 4}, {"internal/gslb", 4},
	{"internal/cli", 5}, {"internal/app", 5},
	{"cmd/*", 6},
}

// layerOf returns the layer of a folder, -1 when the table does not know it.
func layerOf(pkg string) int {
	for _, l := range layers {
		if match(l.pattern, pkg) {
			return l.layer
		}
	}
	return -1
}

func match(pattern, pkg string) bool {
	ok, err := path.Match(pattern, pkg)
	return ok && err == nil
}

// edge is one import that is allowed, and why. Everybody may import event; every other edge stands here.
type edge struct{ from, to, reason string }

var edges = []edge{
	// Within layer 1.
	{"internal/listen", "internal/loop", "a socket that was accepted, and its TLS, become a connection of a loop"},
	{"internal/loop", "internal/observe", "turns, wakes and refusals of a loop are counted"},
	{"internal/listen", "internal/ws", "a listener may speak its protocol over WebSocket"},
	{"internal/ws", "internal/loop", "a framing lies between a connection and its handler, on the same loop"},
	{"internal/ws", "internal/observe", "refused handshakes and close codes are counted"},
	{"internal/listen", "internal/observe", "refusals before there is a session are counted"},
	{"internal/dtls", "internal/loop", "datagrams come and go on a loop's socket, peers belong to it"},
	{"internal/dtls", "internal/observe", "handshakes, refusals and drops are counted by reason"},
	{"internal/identity", "internal/observe", "refused credentials are counted"},
	{"internal/identity", "internal/expr", "claims and answers become names and attributes by expressions"},
	{"internal/identity", "internal/clienttls", "key sets and callouts are asked over TLS declared like everywhere"},
	{"internal/expr", "internal/expr/*", "an expression reads payloads by scanning and asks named sets"},
	{"internal/expr/when", "internal/expr", "a condition of the configuration is an expression"},
	{"internal/expr/when", "internal/expr/sets", "a condition asks the named sets of its configuration"},
	{"internal/expr/when", "internal/config", "a condition has a place in the files"},
	{"internal/expr/when", "internal/observe", "conditions without an answer are counted and told"},

	// Within layer 2: session -> policy -> route -> the targets; back only through tickets and takers.
	{"internal/session", "internal/policy", "a published event passes the chain of its session"},
	{"internal/session", "internal/route", "what passed is matched; a session's subscriptions are takers of the table"},
	{"internal/session", "internal/retain", "a new subscription is answered with the retained values"},
	{"internal/policy", "internal/route", "a policy that names a topic uses the captures of the route table"},

	// Layer 2 on layer 1.
	{"internal/session", "internal/loop", "a session has one home loop, its clock and its mailboxes"},
	{"internal/session", "internal/observe/topk", "who and what comes most often is told to whoever looks"},
	{"internal/session", "internal/observe", "every refusal, drop and queue is counted"},
	{"internal/session", "internal/tap", "a session begins an event's trace, and says what it does with what it is offered"},
	{"internal/route", "internal/tap", "the routes and loops of an event are steps of its trace"},
	{"internal/pool", "internal/tap", "the attempts and the end of an event are steps of its trace"},
	{"internal/session", "internal/identity", "a session belongs to a principal"},
	{"internal/route", "internal/loop", "deliveries to takers of other loops go by mailbox"},
	{"internal/route", "internal/observe", "matches, legs and outcomes are counted"},
	{"internal/policy", "internal/loop", "a parked event comes back by the timer of its loop"},
	{"internal/policy", "internal/observe", "verdicts are counted by policy"},
	{"internal/policy", "internal/identity", "a rule may ask for the principal"},
	{"internal/policy", "internal/config", "a policy declares its fields once, in config's types"},
	{"internal/pool", "internal/observe", "queues, retries and dead letters are counted"},
	{"internal/pool", "internal/config", "a pool declares its fields once, in config's types"},
	{"internal/retain", "internal/observe", "kept values are counted"},

	{"internal/policy", "internal/expr", "the conditions of policies look at the event of their loop"},
	{"internal/policy", "internal/expr/when", "rules, rewrites and classes may have conditions"},
	{"internal/route", "internal/expr", "the conditions of routes look at the event of their loop"},
	{"internal/route", "internal/expr/when", "a route may have a condition"},

	// Layer 3: a protocol speaks to its clients on loops, through sessions; a destination is a driver of pools.
	{"internal/protocol/*", "internal/protocol/*/wire", "a protocol's codec lives in its folder"},
	{"internal/protocol/*", "internal/loop", "a connection is a handler on a loop"},
	{"internal/protocol/*", "internal/listen", "a listener hands its connections out"},
	{"internal/protocol/*", "internal/dtls", "datagrams may be protected by DTLS"},
	{"internal/protocol/*", "internal/ws", "MQTT and AMQP are spoken over WebSocket"},
	{"internal/protocol/*", "internal/identity", "credentials are checked by one interface, none of the protocol's own"},
	{"internal/protocol/*", "internal/config", "a protocol declares its fields once, in config's types"},
	{"internal/protocol/*", "internal/clienttls", "a client end declares and reads its side of TLS like all others"},
	{"internal/destination/*", "internal/clienttls", "a driver declares and reads its side of TLS like all others"},
	{"internal/cli", "internal/clienttls", "the verbs that are clients read their files like the drivers"},
	{"internal/protocol/*", "internal/observe", "refusals are counted by reason"},
	{"internal/protocol/*", "internal/cloudevents", "an event may travel as a CloudEvent"},
	{"internal/protocol/*", "internal/session", "a server end opens sessions"},
	{"internal/protocol/*", "internal/policy", "a server end names the reason of a refusal"},
	{"internal/protocol/*", "internal/route", "a source publishes into the walk"},
	{"internal/protocol/*", "internal/retain", "a protocol of resources answers a read with the last value"},
	{"internal/protocol/*", "internal/pool", "a client end is a driver of pools"},
	{"internal/destination/*", "internal/cloudevents", "an event travels as a CloudEvent"},
	{"internal/destination/*", "internal/config", "a destination declares its fields once, in config's types"},
	{"internal/destination/*", "internal/observe", "requests are counted by outcome"},
	{"internal/destination/*", "internal/pool", "a destination is a driver of pools"},

	// Layer 4 and above.
	{"internal/otlp", "internal/tap", "spans are made of decision paths"},
	{"internal/otlp", "internal/observe", "spans that are lost are counted"},
	{"internal/admin", "internal/config", "the API's addresses and limits are configuration"},
	{"internal/admin", "internal/observe", "metrics and health are read from the registry"},
	{"internal/admin", "internal/expr", "the rows of a list are chosen by a condition"},
	{"internal/admin", "internal/tap", "the stream of decision paths, and the answer of explain"},
	{"internal/admin", "internal/listen", "the API listens like everybody else"},
	{"internal/app", "internal/*", "the composition root names every part"},
	{"internal/app", "internal/expr/*", "sets and conditions are built here"},
	{"internal/app", "internal/observe/topk", "the sketches of all loops are merged for the admin API"},
	{"internal/app", "internal/protocol/*", "builtin.go is the list of modules"},
	{"internal/app", "internal/destination/*", "builtin.go is the list of modules"},
	{"internal/cli", "internal/admin", "the verbs read the API's own documents"},
	{"internal/cli", "internal/app", "run and dev start a node"},
	{"internal/cli", "internal/config", "config check reads a file"},
	{"internal/cli", "internal/identity", "user add writes a verifier"},
	{"internal/cli", "internal/observe", "the verbs share the log's format"},
	{"internal/cli", "internal/tap", "tap and explain print records"},
	{"internal/cli", "internal/protocol/mqtt", "pub, sub and bench speak MQTT with the product's own client end"},
	{"internal/cli", "internal/protocol/mqtt/wire", "pub, sub and bench speak MQTT with the product's own codec"},
	{"cmd/*", "internal/cli", "main is one line"},
}

// checkEdges: every import stands in the table or goes to event, none goes up, no sibling of layer 3 sees another.
func checkEdges(t *tree) []finding {
	var out []finding
	t.imports(func(s *source, at token.Pos, to string) {
		from, to0, from0 := s.pkg, layerOf(to), layerOf(s.pkg)
		switch {
		case from0 < 0:
			out = append(out, s.at(at, "package %s has no layer", from))
		case to0 < 0:
			out = append(out, s.at(at, "package %s, imported here, has no layer", to))
		case to0 > from0:
			out = append(out, s.at(at, "imports run downwards: %s (layer %d) imports %s (layer %d)", from, from0, to, to0))
		case from0 == 3 && to0 == 3 && to != from+"/wire":
			out = append(out, s.at(at, "siblings of layer 3 never see each other: %s imports %s", from, to))
		case to == "internal/event":
		case !slices.ContainsFunc(edges, func(e edge) bool { return match(e.from, from) && match(e.to, to) }):
			out = append(out, s.at(at, "no reason is written for %s importing %s (guard/layers_test.go, edges)", from, to))
		}
	})
	return out
}

func TestLayers(t *testing.T) {
	tr := load(t)
	report(t, checkEdges(tr))
	for _, p := range tr.packages() {
		if layerOf(p) < 0 {
			t.Errorf("%s: package has no layer (guard/layers_test.go, layers)", p)
		}
	}
}

func TestEdgesHaveReasons(t *testing.T) {
	for i, e := range edges {
		if len(e.reason) < 10 {
			t.Errorf("edge %s -> %s: no reason", e.from, e.to)
		}
		if l, m := layerOf(e.from), layerOf(e.to); l >= 0 && m > l {
			t.Errorf("edge %s -> %s goes up", e.from, e.to)
		}
		for _, o := range edges[:i] {
			if o.from == e.from && o.to == e.to {
				t.Errorf("edge %s -> %s stands twice", e.from, e.to)
			}
		}
	}
}

// checkEvent: layer 0 imports the standard library only, not even a module.
func checkEvent(t *tree) []finding {
	var out []finding
	t.product(func(s *source) {
		if s.pkg != "internal/event" {
			return
		}
		for _, i := range s.file.Imports {
			if hasHost(i.Path.Value) {
				out = append(out, s.at(i.Pos(), "event imports the standard library only, not %s", i.Path.Value))
			}
		}
	})
	return out
}

// hasHost says whether an import path (quoted) begins with a host name, as everything outside the library does.
func hasHost(quoted string) bool {
	for _, c := range quoted {
		switch c {
		case '.':
			return true
		case '/':
			return false
		}
	}
	return false
}

func TestEventImportsNothing(t *testing.T) { report(t, checkEvent(load(t))) }

// onlyImporter names packages of others that one folder alone may import, and why.
var onlyImporter = []struct{ path, folder, reason string }{
	{"github.com/nats-io/", "internal/fabric", "another engine can stand behind the fabric"},
	{"github.com/spf13/cobra", "internal/cli", "flags are parsed in one place"},
	{"golang.org/x/sys/unix", "internal/loop internal/listen internal/observe internal/cli internal/app internal/systemd",
		"system calls stay near the sockets and the process"},
	{"go.yaml.in/yaml/v3", "internal/config internal/identity internal/cli",
		"one reader of configuration; the users file is the other file a person edits, and -o yaml the one that is written"},
	{"github.com/danielgtaylor/huma/v2", "internal/admin", "operations are declared in one place"},
	{"net/http/pprof", "internal/cli", "profiles show memory: a hidden flag serves them, on loopback only"},
}

func TestForbiddenImports(t *testing.T) { report(t, checkForbidden(load(t))) }
