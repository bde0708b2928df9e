package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errQuota = errors.New("refused: quota exceeded")

// inBubble runs a client verb in virtual time.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestPub(t *testing.T) {
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, stdin string
		args        []string
		want        []string
	}{
		{"message", "", []string{"-m", "hello", "-q", "1"}, []string{"hello"}},
		{"empty message", "", []string{"-m", ""}, []string{""}},
		{"null", "", []string{"-n", "-r"}, []string{""}},
		{"file", "", []string{"-f", file}, []string{"from a file"}},
		{"stdin", "all of it\n", []string{"-f", "-"}, []string{"all of it\n"}},
		{"lines", "one\ntwo\n\nlast", []string{"-l", "-q", "2"}, []string{"one", "two", "", "last"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			s := &fakeServer{}
			s.refuse = func(m *message) error {
				if m.topic != "a/b" {
					t.Errorf("topic %q", m.topic)
				}
				got = append(got, string(m.payload))
				return nil
			}
			runWith(t.Context(), s, tc.stdin, append([]string{"pub", "-t", "a/b"}, tc.args...)...).want(t, exitOK, "", "")
			if strings.Join(got, "|") != strings.Join(tc.want, "|") || len(got) != len(tc.want) {
				t.Errorf("published %q, want %q", got, tc.want)
			}
		})
	}
}

func TestPubPassesEverythingOn(t *testing.T) {
	var got message
	s := &fakeServer{refuse: func(m *message) error { got = *m; return nil }}
	t.Setenv("WINDROSE_PASSWORD", "from the environment")
	runWith(t.Context(), s, "", "pub", "-t", "a", "-m", "x", "-q", "1", "-r", "--content-type", "text/plain", "--header", "k=v=w", "--expiry", "1500ms",
		"-i", "me", "-u", "anna", "-V", "5", "--url", "mqtt://h.example:1999", "--keepalive", "0").want(t, exitOK, "", "")
	if !got.retain || got.qos != 1 || got.contentType != "text/plain" || len(got.headers) != 1 || got.headers[0] != (header{"k", "v=w"}) || got.expiry != 2 {
		t.Errorf("message %+v", got)
	}
	c := s.dialled[0]
	if c.address != "h.example:1999" || c.clientID != "me" || c.username != "anna" || string(c.password) != "from the environment" || c.version != 5 ||
		!c.clean || c.keepAlive != 0 || c.tls != nil {
		t.Errorf("connection %+v", c)
	}
	runWith(t.Context(), s, "", "pub", "-t", "a", "-m", "x", "-V", "mqttv311", "--url", "mqtts://bob:pw@[::1]", "-P", "better").want(t, exitOK, "", "")
	c = s.dialled[1]
	if c.address != "[::1]:8883" || c.username != "bob" || string(c.password) != "better" || c.version != 4 || c.tls == nil || c.tls.ServerName != "::1" {
		t.Errorf("connection %+v", c)
	}
	runWith(t.Context(), s, "", "pub", "-t", "a", "-m", "x", "--url", "10.0.0.7:1884").want(t, exitOK, "", "")
	if c = s.dialled[2]; c.address != "10.0.0.7:1884" || c.hasUser {
		t.Errorf("connection %+v", c)
	}
}

func TestPubSaysWhatBecameOfIt(t *testing.T) {
	runWith(t.Context(), &fakeServer{dialErr: errors.New("refused: not authorized")}, "", "pub", "-t", "a", "-m", "x").
		want(t, exitError, "", "windrose: connect to 127.0.0.1:1883: refused: not authorized")
	refuse := &fakeServer{refuse: func(*message) error { return errQuota }}
	runWith(t.Context(), refuse, "", "pub", "-t", "a", "-m", "x", "-q", "1").want(t, exitError, "", `publish to "a": refused: quota exceeded`)
	some := &fakeServer{refuse: func(m *message) error {
		if string(m.payload) == "bad" {
			return errQuota
		}
		return nil
	}}
	runWith(t.Context(), some, "1\nbad\n3\n", "pub", "-t", "a", "-l", "-q", "1").want(t, exitPartly, "", "2 of 3 lines acknowledged: refused: quota exceeded")
	runWith(t.Context(), some, "bad\n", "pub", "-t", "a", "-l", "-q", "1").want(t, exitError, "", "0 of 1 line acknowledged")
	inBubble(t, func(t *testing.T) {
		silent := &fakeServer{silent: true}
		runWith(t.Context(), silent, "", "pub", "-t", "a", "-m", "x", "-q", "1", "--timeout", "3s").want(t, exitError, "", "not acknowledged within 3s")
		runWith(t.Context(), silent, strings.Repeat("x\n", 2*pubWindow), "pub", "-t", "a", "-l", "-q", "1", "--timeout", "3s").
			want(t, exitError, "", "0 of 100 lines acknowledged: not acknowledged within 3s")
	})
	gone := &fakeServer{silent: true, after: func(s *fakeServer, _ int) { s.clients[0].cut(errors.New("server shutting down")) }}
	runWith(t.Context(), gone, "", "pub", "-t", "a", "-m", "x", "-q", "1").want(t, exitError, "", "connection lost: server shutting down")
	runWith(t.Context(), &fakeServer{}, "", "pub", "-t", "a", "-f", "/nonexistent").want(t, exitError, "", "open the payload")
	runWith(t.Context(), &fakeServer{}, "", "pub", "-t", "a", "-n", "--url", "mqtts://h", "--cafile", "/nonexistent").want(t, exitError, "", "read --cafile")
	runWith(t.Context(), &fakeServer{}, "", "pub", "-t", "a", "-n", "--url", "mqtts://h", "--cafile", os.Args[0]).want(t, exitError, "", "no certificate in it")
	runWith(t.Context(), &fakeServer{}, "", "pub", "-t", "a", "-n", "--url", "mqtts://h", "--cert", "/none", "--key", "/none").want(t, exitError, "", "read --cert and --key")
}

// publishLater sends messages once somebody listens.
func publishLater(s *fakeServer, ms ...message) {
	for {
		time.Sleep(time.Second)
		s.mu.Lock()
		ready := len(s.clients) > 0 && len(s.clients[0].filters) > 0
		if ready {
			for _, m := range ms {
				s.fanOut(0, &m)
			}
		}
		s.mu.Unlock()
		if ready {
			return
		}
	}
}

func TestSub(t *testing.T) {
	ms := []message{
		{topic: "a/1", payload: []byte("one")},
		{topic: "b", payload: []byte("not this")},
		{topic: "a/2", payload: []byte{0xff, 0}, qos: 1, retain: true},
		{topic: "a/3", payload: []byte(`{"<":1}`), contentType: "application/json", headers: []header{{"k", "v"}}, expiry: 7},
	}
	for _, tc := range []struct {
		args []string
		code int
		out  string
		err  string
	}{
		{[]string{"-C", "3"}, exitOK, "one\n\xff\x00\n{\"<\":1}\n", ""},
		{[]string{"-C", "1", "-v"}, exitOK, "a/1 one\n", ""},
		{[]string{"-W", "5"}, exitOK, "one\n\xff\x00\n{\"<\":1}\n", ""},
		{[]string{"-C", "9", "-W", "5s"}, exitError, "one\n\xff\x00\n{\"<\":1}\n", "3 of 9 events within 5s"},
	} {
		inBubble(t, func(t *testing.T) {
			s := &fakeServer{}
			go publishLater(s, ms...)
			runWith(t.Context(), s, "", append([]string{"sub", "-t", "a/#"}, tc.args...)...).want(t, tc.code, tc.out, tc.err)
		})
	}
	inBubble(t, func(t *testing.T) {
		s := &fakeServer{}
		go publishLater(s, ms...)
		r := runWith(t.Context(), s, "", "sub", "-t", "a/#", "-C", "3", "-o", "json")
		const start = `{"time":"2000-01-01T00:00:01Z","topic":"a/`
		r.want(t, exitOK, start+`1","qos":0,"retain":false,"payload":"one"}`+"\n"+
			start+`2","qos":1,"retain":true,"payload_base64":"/wA="}`+"\n"+
			start+`3","qos":0,"retain":false,"payload":"{\"<\":1}","content_type":"application/json","headers":[{"key":"k","value":"v"}],"expiry_seconds":7}`+"\n", "")
	})
}

func TestSubEnds(t *testing.T) {
	inBubble(t, func(t *testing.T) { // by the user
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		runWith(ctx, &fakeServer{}, "", "sub", "-t", "a").want(t, exitOK, "", "")
	})
	inBubble(t, func(t *testing.T) { // by the server: what came before is printed
		s := &fakeServer{}
		go func() {
			publishLater(s, message{topic: "a", payload: []byte("last words")})
			s.clients[0].cut(errors.New("session taken over"))
		}()
		runWith(t.Context(), s, "", "sub", "-t", "a").want(t, exitError, "last words\n", "connection lost: session taken over")
	})
	refuse := &fakeServer{filterErr: func(f string) error {
		if f == "secret/#" {
			return errors.New("refused: not authorized")
		}
		return nil
	}}
	inBubble(t, func(t *testing.T) {
		runWith(t.Context(), refuse, "", "sub", "-t", "secret/#").want(t, exitError, "", `subscribe to "secret/#": refused: not authorized`)
		runWith(t.Context(), refuse, "", "sub", "-t", "secret/#", "-t", "a", "-W", "1").want(t, exitPartly, "", `subscribe to "secret/#"`)
	})
}

func TestSubResume(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &fakeServer{}
		runWith(t.Context(), s, "", "sub", "-t", "a", "-W", "1", "-i", "me", "--resume", "--session-expiry", "2h").want(t, exitOK, "", "")
		if c := s.dialled[0]; c.clean || c.expiry != 7200 || c.clientID != "me" {
			t.Errorf("connection %+v", c)
		}
	})
}

func TestControlCharactersAreKeptFromATerminal(t *testing.T) {
	if got := cleanText("a\x1b[2J\tb\u009b\nc"); got != "a\uFFFD[2J\tb\uFFFD\nc" {
		t.Errorf("%q", got)
	}
}

func TestBench(t *testing.T) {
	run := func(t *testing.T, s *fakeServer, args ...string) (benchDoc, result) {
		t.Helper()
		r := runWith(t.Context(), s, "", append([]string{"bench", "mqtt", "--duration", "2s", "--drain", "1s", "--quiet", "-o", "json"}, args...)...)
		var d benchDoc
		if err := json.Unmarshal([]byte(r.out), &d); err != nil {
			t.Fatalf("%v: %s %s", err, r.out, r.err)
		}
		return d, r
	}
	for _, tc := range []struct {
		name   string
		server *fakeServer
		args   string
		code   int
		text   string
		check  func(d benchDoc) bool
	}{
		{"all well", &fakeServer{}, "--pubs 4 --subs 2 --rate 200 -q 1", exitOK, "", func(d benchDoc) bool {
			return d.Sent == 400 && d.Acked == 400 && d.Delivered == 400 && d.Expected == 400 && d.Lost == 0 && d.SendRate == 200
		}},
		{"fan-out", &fakeServer{}, "--pattern fanout --pubs 2 --subs 5 --rate 100", exitOK, "", func(d benchDoc) bool {
			return d.Sent == 200 && d.Delivered == 1000 && d.Expected == 1000
		}},
		{"publish only", &fakeServer{}, "--pubs 3 --subs 0 --rate 30 -q 2", exitOK, "", func(d benchDoc) bool {
			return d.Sent == 60 && d.Acked == 60 && d.Expected == 0 && d.Lost == 0
		}},
		{"lost", &fakeServer{deliver: func(n int, _ *message) int { return min(1, n%10) }}, "--pubs 1 --subs 1 --rate 100 -q 1", exitError, "20 events lost",
			func(d benchDoc) bool { return d.Lost == 20 && d.Duplicated == 0 && d.Reordered == 0 }},
		{"lost with QoS 0 is told, not an error", &fakeServer{deliver: func(n int, _ *message) int { return min(1, n%10) }},
			"--pubs 1 --subs 1 --rate 100", exitOK, "", func(d benchDoc) bool { return d.Lost == 20 }},
		{"doubled", &fakeServer{deliver: func(n int, _ *message) int { return 1 + n%2 }}, "--pubs 1 --subs 1 --rate 100", exitError, "100 events doubled",
			func(d benchDoc) bool { return d.Duplicated == 100 && d.Lost == 0 }},
		{"out of order", &fakeServer{delay: func(n int) bool { return n%50 == 10 }}, "--pubs 1 --subs 1 --rate 100", exitError, "4 events out of order",
			func(d benchDoc) bool { return d.Reordered == 4 && d.Lost == 0 && d.Duplicated == 0 }},
		{"refused", &fakeServer{refuse: func(*message) error { return errQuota }}, "--pubs 1 --subs 1 --rate 100 -q 1", exitOK, "",
			func(d benchDoc) bool {
				return d.Refused == 200 && d.Lost == 0 && len(d.Refusals) == 1 && d.Refusals[0] == (benchRefusal{errQuota.Error(), 200})
			}},
		{"unanswered", &fakeServer{silent: true}, "--pubs 1 --subs 1 --rate 100 -q 1 --window 7", exitOK, "", func(d benchDoc) bool {
			return d.Sent == 7 && d.Unanswered == 7
		}},
		{"cut", &fakeServer{after: func(s *fakeServer, n int) {
			if n == 50 {
				s.clients[0].cut(errors.New("gone"))
			}
		}}, "--pubs 1 --subs 1 --rate 100", exitError, "1 connections lost", func(d benchDoc) bool { return d.Cut == 1 && d.Lost > 100 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d, r := run(t, tc.server, strings.Fields(tc.args)...)
				r.want(t, tc.code, "*", tc.text)
				if !tc.check(d) {
					t.Errorf("%+v", d)
				}
			})
		})
	}
}

// A closed loop goes as fast as the server answers, never has more than its window open, and a lost event does not stop
// it for ever.
func TestBenchClosedLoop(t *testing.T) {
	for _, qos := range []string{"0", "1"} {
		n := 0
		s := &fakeServer{deliver: func(i int, _ *message) int {
			if n = i; i == 100 {
				return 0
			}
			return 1
		}}
		r := runWith(t.Context(), s, "", "bench", "mqtt", "--pubs", "2", "--subs", "2", "-q", qos, "--duration", "100ms", "--drain", "100ms", "--window", "4", "--quiet")
		if n < 100 {
			t.Skipf("this machine is too busy: %d events", n)
		}
		if qos == "0" {
			r.want(t, exitOK, "*", "")
		} else {
			r.want(t, exitError, "*", "1 events lost")
		}
	}
}

func TestBenchTable(t *testing.T) {
	d := &benchDoc{
		benchPlan: benchPlan{Pubs: 4, Subs: 2, Pattern: "pairs", QoS: 1, Size: 64, Rate: 2000}, Sent: 40000, Acked: 39990, Refused: 10,
		Refusals: []benchRefusal{{"refused: quota exceeded", 10}}, Delivered: 39990, SendRate: 2000, DeliverRate: 1999,
		Latency: quantiles{.123, 1.5, 22.25, 103, 1204}, AckLatency: quantiles{.1, .2, .3, .4, .5}, Stalls: 2,
	}
	const want = `plan                  4 pubs, 2 subs, pairs, QoS 1, 64 bytes, 2,000/s
sent          40,000  2,000/s
acknowledged  39,990  p50 0.10  p90 0.20  p99 0.30  p99.9 0.40  max 0.50 ms
delivered     39,990  1,999/s
latency               p50 0.12  p90 1.50  p99 22.2  p99.9 103  max 1204 ms
lost          0
doubled       0
out of order  0
refused       10      refused: quota exceeded
stalls        2
`
	if got := d.table().String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLane(t *testing.T) {
	for _, tc := range []struct {
		in                     string
		got, dup, late, missed uint64
	}{
		{"0 1 2 3", 4, 0, 0, 0},
		{"0 0 1 1 1", 2, 3, 0, 0},
		{"2 0 1 3", 4, 0, 2, 0},
		{"0 5 2 4 2", 4, 1, 2, 2},
		{"9 0 9 8 0", 3, 2, 2, 7},
	} {
		var l lane
		for f := range strings.FieldsSeq(tc.in) {
			n, err := strconv.ParseUint(f, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			l.receive(n)
		}
		var missed uint64
		for _, m := range l.missing {
			missed += m.to - m.from
		}
		if l.got != tc.got || l.dup != tc.dup || l.late != tc.late || missed != tc.missed {
			t.Errorf("%s: got %d, dup %d, late %d, missed %d", tc.in, l.got, l.dup, l.late, missed)
		}
	}
	var l lane
	for i := range uint64(3 * maxSpans) {
		l.receive(2 * i)
	}
	if len(l.missing) != maxSpans {
		t.Errorf("%d gaps remembered", len(l.missing))
	}
}

func TestDurations(t *testing.T) {
	for i := range histLen - 1 {
		if u := histUpper(i); histIndex(u) != i || histIndex(u+1) != i+1 {
			t.Fatalf("bucket %d ends at %d, which is in %d, and %d in %d", i, u, histIndex(u), u+1, histIndex(u+1))
		}
	}
	var d durations
	for i := range 1000 {
		d.add(time.Duration(i+1) * time.Millisecond)
	}
	d.add(-time.Second)
	q := d.quantiles()
	for _, x := range []struct{ got, want float64 }{{q.P50, 500}, {q.P90, 900}, {q.P99, 990}, {q.Max, 1000}} {
		if x.got < x.want*.99 || x.got > x.want*1.04 {
			t.Errorf("%v, want about %v", x.got, x.want)
		}
	}
	if (new(durations)).quantiles() != (quantiles{}) {
		t.Error("quantiles of nothing")
	}
}
