package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// commands are what scripts can do beyond testscript's own words (exec, grep, stdout, cmp, ...).
//
//	freeport NAME...                     sets each NAME to a free port of 127.0.0.1
//	node NAME ADMINPORT ARG...           starts `windrose ARG...`, waits until /readyz says 200
//	broker NAME PORT [LINE...]           starts a real mosquitto; further lines are added to its configuration
//	bg NAME PROGRAM ARG...               starts a program; its output goes to NAME.out and NAME.log
//	quit NAME                            ends one of these with SIGTERM (a node must end well: exit code 0)
//	crash NAME                           ends it at once (SIGKILL)
//	[!] done NAME                        waits for the program to end by itself; its exit code must (not) be 0
//	await FILE REGEXP [N]                waits until the file has N lines that match (default 1; =N: exactly, and no more)
//	sink NAME PORT ANSWER...             starts an HTTP sink; ANSWER is STATUS[xTIMES][:RETRYAFTER] or hang
//	answer NAME ANSWER...                changes what the sink answers from now on
//	received NAME N                      waits until the sink has N requests; =N: exactly; writes them to NAME.req
//	metric PORT NAME[{k="v",...}] OP N   waits until the node's metric (summed over series) is <, =, >, ... N
//	certs CLIENT                         writes ca.pem, server.pem/.key and client.pem/.key (named CLIENT)
//	expand FILE...                       replaces ${NAME} in files by the variables of the script
//	sleep DURATION
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"freeport": cmdFreeport,
	"node":     cmdNode,
	"broker":   cmdBroker,
	"bg":       cmdBg,
	"quit":     cmdQuit,
	"crash":    cmdCrash,
	"done":     cmdDone,
	"await":    cmdAwait,
	"sink":     cmdSink,
	"answer":   cmdAnswer,
	"received": cmdReceived,
	"metric":   cmdMetric,
	"sleep":    cmdSleep,
	"expand":   cmdExpand,
	"certs":    cmdCerts,
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// usage checks the number of arguments and that the command is not negated.
func usage(ts *testscript.TestScript, neg bool, ok bool, text string) {
	if neg {
		ts.Fatalf("unsupported: ! %s", text)
	}
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func cmdFreeport(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 0, "freeport NAME...")
	for _, name := range args {
		port, err := freePort()
		ts.Check(err)
		ts.Setenv(name, port)
	}
}

// environ is what a program in the background sees: the script's environment.
func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, k := range []string{"PATH", "HOME", "TMPDIR", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "LC_ALL"} {
		env = append(env, k+"="+ts.Getenv(k))
	}
	return append(env, "GORACE=halt_on_error=0 exitcode=66")
}

func cmdNode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 3, "node NAME ADMINPORT ARG...")
	w := worldOf(ts)
	p, err := w.start(args[0], environ(ts), ts.MkAbs("."), append([]string{filepath.Join(w.bin, "windrose")}, args[2:]...)...)
	ts.Check(err)
	p.ours = true
	ts.Defer(func() {
		_ = p.stop(syscall.SIGKILL, patience)
		text, _ := os.ReadFile(p.log)
		ts.Logf("[%s]\n%s", filepath.Base(p.log), tail(text, 6000))
		if err := p.check(); err != nil {
			w.fail("%s: %v", ts.Name(), err)
		}
	})
	ready := until(patience, func() error {
		if p.ended() {
			return nil // said below
		}
		status, body, err := get("http://127.0.0.1:" + args[1] + "/readyz")
		if err != nil {
			return err
		}
		if status != 200 {
			return fmt.Errorf("readyz says %d: %s", status, body)
		}
		return nil
	})
	if p.ended() {
		text, _ := os.ReadFile(p.log)
		ts.Fatalf("%s ended: %v\n%s", args[0], p.cmd.ProcessState, text)
	}
	ts.Check(ready)
}

func tail(text []byte, n int) []byte { return text[max(0, len(text)-n):] }

func cmdBroker(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "broker NAME PORT [LINE...]")
	name, port := args[0], args[1]
	conf := "listener " + port + " 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\nlog_type all\n" + strings.Join(args[2:], "\n") + "\n"
	file := ts.MkAbs(name + ".conf")
	ts.Check(os.WriteFile(file, []byte(conf), 0o600))
	_, err := worldOf(ts).start(name, environ(ts), ts.MkAbs("."), "/usr/sbin/mosquitto", "-c", file)
	ts.Check(err)
	ts.Check(until(patience, func() error { return dial(port) }))
}

func cmdBg(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "bg NAME PROGRAM ARG...")
	argv := args[1:]
	if strings.HasPrefix(argv[0], "mosquitto_") {
		argv = append([]string{"stdbuf", "-oL"}, argv...) // a file is block buffered otherwise
	}
	w := worldOf(ts)
	ours := argv[0] == "windrose"
	if ours {
		argv[0] = filepath.Join(w.bin, argv[0])
	}
	p, err := w.start(args[0], environ(ts), ts.MkAbs("."), argv...)
	ts.Check(err)
	p.ours = ours
}

// process returns a program of the script by name.
func (w *world) process(ts *testscript.TestScript, name string) *process {
	p := w.procs[name]
	if p == nil {
		ts.Fatalf("no program %q was started", name)
	}
	return p
}

func cmdQuit(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "quit NAME")
	p := worldOf(ts).process(ts, args[0])
	if p.ended() {
		ts.Fatalf("%s had ended already: %v", args[0], p.cmd.ProcessState)
	}
	ts.Check(p.stop(syscall.SIGTERM, patience))
	ts.Check(p.check())
	if p.ours && p.cmd.ProcessState.ExitCode() != 0 {
		ts.Fatalf("%s: %v", args[0], p.cmd.ProcessState)
	}
}

func cmdCrash(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "crash NAME")
	ts.Check(worldOf(ts).process(ts, args[0]).stop(syscall.SIGKILL, patience))
}

func cmdDone(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] done NAME")
	}
	p := worldOf(ts).process(ts, args[0])
	select {
	case <-p.done:
	case <-time.After(3 * patience):
		ts.Fatalf("%s does not end; its output:\n%s", args[0], ts.ReadFile(p.out))
	}
	if ok := p.cmd.ProcessState.ExitCode() == 0; ok == neg {
		ts.Fatalf("%s: %v\n%s%s", args[0], p.cmd.ProcessState, ts.ReadFile(p.out), ts.ReadFile(p.log))
	}
}

// count reads "3" or "=3".
func count(ts *testscript.TestScript, s string) (n int, exactly bool) {
	s, exactly = strings.CutPrefix(s, "=")
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n, exactly
}

// settle is how long nothing more may come where a script says "exactly".
const settle = 300 * time.Millisecond

func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2 || len(args) == 3, "await FILE REGEXP [N]")
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	want, exactly := 1, false
	if len(args) == 3 {
		want, exactly = count(ts, args[2])
	}
	file := ts.MkAbs(args[0])
	look := func() error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if n := len(re.FindAll(text, -1)); n < want || exactly && n != want {
			return fmt.Errorf("%s has %d lines that match %q, want %d; it holds:\n%s", args[0], n, args[1], want, tail(text, 3000))
		}
		return nil
	}
	ts.Check(until(patience, look))
	if exactly {
		time.Sleep(settle)
		ts.Check(look())
	}
}

// answers reads what a sink shall say.
func answers(ts *testscript.TestScript, args []string) []answer {
	var out []answer
	for _, a := range args {
		if a == "hang" {
			out = append(out, answer{})
			continue
		}
		a, retry, _ := strings.Cut(a, ":")
		code, times, _ := strings.Cut(a, "x")
		status, err := strconv.Atoi(code)
		ts.Check(err)
		n := 1
		if times != "" {
			n, err = strconv.Atoi(times)
			ts.Check(err)
		}
		for range n {
			out = append(out, answer{status, retry})
		}
	}
	return out
}

func cmdSink(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 3, "sink NAME PORT ANSWER...")
	s, err := newSink(args[1], answers(ts, args[2:]))
	ts.Check(err)
	worldOf(ts).sinks[args[0]] = s
}

func (w *world) sink(ts *testscript.TestScript, name string) *sink {
	s := w.sinks[name]
	if s == nil {
		ts.Fatalf("no sink %q was started", name)
	}
	return s
}

func cmdAnswer(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "answer NAME ANSWER...")
	s := worldOf(ts).sink(ts, args[0])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = answers(ts, args[1:])
}

func cmdReceived(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "received NAME N")
	s := worldOf(ts).sink(ts, args[0])
	want, exactly := count(ts, args[1])
	look := func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := len(s.got); n < want || exactly && n != want {
			return fmt.Errorf("%s has %d requests, want %d:\n%s", args[0], n, want, strings.Join(s.got, "\n"))
		}
		return nil
	}
	err := until(patience, look)
	if err == nil && exactly {
		time.Sleep(settle)
		err = look()
	}
	s.mu.Lock()
	text := strings.ReplaceAll(strings.Join(s.got, "\n"), "\r\n", "\n")
	s.mu.Unlock()
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".req"), []byte(text), 0o600))
	ts.Check(err)
}

func cmdMetric(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 4, `metric PORT NAME[{k="v",...}] OP N`)
	name, labels, _ := strings.Cut(strings.TrimSuffix(args[1], "}"), "{")
	var parts []string
	if labels != "" {
		parts = strings.Split(labels, ",")
	}
	want, err := strconv.ParseFloat(args[3], 64)
	ts.Check(err)
	ts.Check(until(patience, func() error {
		_, page, err := get("http://127.0.0.1:" + args[0] + "/metrics")
		if err != nil {
			return err
		}
		got, found := metric(page, name, parts)
		if !found && args[2] != "absent" {
			return fmt.Errorf("no series %s; the page:\n%s", args[1], page)
		}
		ok := false
		switch args[2] {
		case "<":
			ok = got < want
		case "<=":
			ok = got <= want
		case "=":
			ok = got == want
		case ">=":
			ok = got >= want
		case ">":
			ok = got > want
		default:
			return errors.New("unknown comparison " + args[2])
		}
		if !ok {
			return fmt.Errorf("%s is %v, want %s %v", args[1], got, args[2], want)
		}
		return nil
	}))
}

func cmdSleep(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "sleep DURATION")
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	time.Sleep(d)
}

// cmdExpand replaces ${NAME} in files by the script's variables: configurations name ports that are known late.
func cmdExpand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 0, "expand FILE...")
	for _, a := range args {
		file := ts.MkAbs(a)
		text, err := os.ReadFile(file)
		ts.Check(err)
		missing := ""
		out := os.Expand(string(text), func(name string) string {
			v := ts.Getenv(name)
			if v == "" {
				missing = name
			}
			return v
		})
		if missing != "" {
			ts.Fatalf("%s: ${%s} is not set", a, missing)
		}
		ts.Check(os.WriteFile(file, []byte(out), 0o600))
	}
}

func cmdCerts(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "certs CLIENT")
	ts.Check(makeCerts(ts.MkAbs("."), args[0]))
}
