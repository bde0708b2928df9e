// Command compare measures Windrose beside a mosquitto in one interleaved run: each scenario is run on one server, then
// on the other, round by round, and the ratio is taken from the medians of that run. See bench/README.md.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scenario is one line of the table. Immutable.
type scenario struct {
	name string
	args string
	tls  bool
	// fresh scenarios start their servers anew and measure memory.
	fresh bool
	goal  string
}

func scenarios() []scenario {
	return []scenario{
		{name: "p0", args: "-s pairs -qos 0", goal: "CPU <= 0.06"},
		{name: "p1", args: "-s pairs -qos 1", goal: "CPU <= 0.06"},
		{name: "x1", args: "-s exchange -n 1000 -window 4 -qos 1", goal: "CPU <= 0.25"},
		{name: "fo", args: "-s fanout -subs 500 -window 8", goal: "CPU <= 0.15"},
		{name: "p0b1", args: "-s pairs -qos 0 -batch 1", goal: "CPU <= 0.40"},
		{name: "r5", args: "-s pairs -rate 5000", goal: "CPU <= 1.3, p99 <= 1.5"},
		{name: "t0", args: "-s pairs -qos 0 -tls tls", tls: true, goal: "CPU <= 0.06"},
		{name: "p2", args: "-s pairs -qos 2"},
		{name: "m", args: "-s match -pubs 20 -subs 100"},
		{name: "idle", args: "-s storm -n 9000 -idlesub", fresh: true, goal: "<= 1.2 KB"},
		{name: "idletls", args: "-s storm -n 4000 -idlesub -tls tls", tls: true, fresh: true, goal: "<= 8 KB"},
	}
}

// server is one of the two. Owned by main.
type server struct {
	label, plain, tls string
	command           func() *exec.Cmd
	cmd               *exec.Cmd
}

// flags are the command line. Immutable after flag.Parse.
type flags struct {
	mqload, windrose, mosquitto, certs, out, only, dir string
	rounds                                             int
	warm, dur, hold                                    time.Duration
}

func main() {
	var f flags
	flag.StringVar(&f.mqload, "mqload", "", "the load generator; without it windrose bench mqtt is used")
	flag.StringVar(&f.windrose, "windrose", "bin/windrose", "the binary to measure")
	flag.StringVar(&f.mosquitto, "mosquitto", "/usr/sbin/mosquitto", "the peer")
	flag.StringVar(&f.certs, "certs", "", "directory of 'mqload certs DIR' (required for TLS)")
	flag.StringVar(&f.dir, "conf", "bench", "directory of windrose.yaml and mosquitto.conf")
	flag.StringVar(&f.out, "json", "", "append every single result to this file")
	flag.StringVar(&f.only, "only", "", "scenarios, by name, separated by commas")
	flag.IntVar(&f.rounds, "rounds", 5, "rounds; the medians are compared")
	flag.DurationVar(&f.warm, "warm", 400*time.Millisecond, "warm-up of each run")
	flag.DurationVar(&f.dur, "dur", 1600*time.Millisecond, "measured time of each run")
	flag.DurationVar(&f.hold, "hold", 4*time.Second, "settle time before memory is read")
	flag.Parse()
	if err := run(&f); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(f *flags) error {
	if f.mqload == "" {
		fmt.Fprintln(os.Stderr, "compare: no -mqload: windrose bench makes the load, for the scenarios that it knows")
	}
	tmp, err := os.MkdirTemp("", "windrose-bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // what is left is in the folder for temporary files
	servers, err := prepare(f, tmp)
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	fmt.Printf("| scenario | | %s | %s | ratio | goal |\n|---|---|---|---|---|---|\n", servers[0].label, servers[1].label)
	for _, sc := range scenarios() {
		if f.only != "" && !slices.Contains(strings.Split(f.only, ","), sc.name) {
			continue
		}
		if _, ok := own()[sc.name]; f.mqload == "" && !ok {
			continue
		}
		if err := measure(f, sc, servers); err != nil {
			return fmt.Errorf("scenario %s: %w", sc.name, err)
		}
	}
	return nil
}

func prepare(f *flags, tmp string) ([]*server, error) {
	certs, err := filepath.Abs(f.certs)
	if err != nil {
		return nil, err
	}
	conf, err := os.ReadFile(filepath.Join(f.dir, "mosquitto.conf"))
	if err != nil {
		return nil, err
	}
	text := strings.NewReplacer("CERT", filepath.Join(certs, "server.pem"), "KEY", filepath.Join(certs, "server.key")).Replace(string(conf))
	mconf := filepath.Join(tmp, "mosquitto.conf")
	if err := os.WriteFile(mconf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	env := append(os.Environ(), "WINDROSE_BENCH_DATA="+filepath.Join(tmp, "data"),
		"WINDROSE_BENCH_CERT="+filepath.Join(certs, "server.pem"), "WINDROSE_BENCH_KEY="+filepath.Join(certs, "server.key"))
	wr := &server{label: "windrose", plain: "127.0.0.1:26101", tls: "127.0.0.1:26102", command: func() *exec.Cmd {
		c := exec.Command(f.windrose, "run", "-c", filepath.Join(f.dir, "windrose.yaml"), "--log-level", "error") //nolint:gosec // the operator names the binary
		c.Env = env
		return c
	}}
	mq := &server{label: "mosquitto", plain: "127.0.0.1:26111", tls: "127.0.0.1:26112", command: func() *exec.Cmd {
		return exec.Command(f.mosquitto, "-c", mconf) //nolint:gosec // the operator names the binary
	}}
	return []*server{wr, mq}, nil
}

func (s *server) start() error {
	if s.cmd != nil {
		return nil
	}
	c := s.command()
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.label, err)
	}
	s.cmd = c
	for range 200 {
		conn, err := net.Dial("tcp", s.plain)
		if err == nil {
			return conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s does not listen on %s", s.label, s.plain)
}

func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(os.Interrupt)
	_ = s.cmd.Wait() // its exit status says nothing here
	s.cmd = nil
}

// result is one run. Immutable.
type result struct {
	cpu, p99, rate, kb, other float64
	faults                    string
}

func measure(f *flags, sc scenario, servers []*server) error {
	all := make([][]result, len(servers))
	for range f.rounds {
		for i, s := range servers {
			if sc.fresh {
				s.stop()
			}
			if err := s.start(); err != nil {
				return err
			}
			run := once
			if f.mqload == "" {
				run = onceOwn
			}
			r, err := run(f, sc, s)
			if err != nil {
				return err
			}
			all[i] = append(all[i], r)
			if sc.fresh {
				s.stop()
			}
		}
	}
	med := func(i int, g func(result) float64) float64 {
		var v []float64
		for _, r := range all[i] {
			v = append(v, g(r))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	row := func(what string, g func(result) float64) {
		a, b := med(0, g), med(1, g)
		ratio := "-"
		if b > 0 && !math.IsNaN(a) {
			ratio = strconv.FormatFloat(a/b, 'f', 3, 64)
		}
		fmt.Printf("| %s | %s | %.2f | %.2f | %s | %s |\n", sc.name, what, a, b, ratio, sc.goal)
	}
	if sc.fresh {
		row("RSS KB/connection", func(r result) float64 { return r.kb })
		row("conn/s", func(r result) float64 { return r.rate })
	} else {
		row("CPU s/M", func(r result) float64 { return r.cpu })
		row("p99 us", func(r result) float64 { return r.p99 })
		row("k events/s", func(r result) float64 { return r.rate / 1000 })
	}
	worst := 0.0
	for i, s := range servers {
		for _, r := range all[i] {
			worst = max(worst, math.Abs(r.other))
			if r.faults != "" {
				fmt.Printf("| %s | FAULT on %s | %s | | | |\n", sc.name, s.label, r.faults)
			}
		}
	}
	if worst > 0.15 {
		fmt.Printf("| %s | noisy: up to %.2f of a CPU was used by others | | | | |\n", sc.name, worst)
	}
	return nil
}

func once(f *flags, sc scenario, s *server) (result, error) {
	args := append(strings.Fields(sc.args), "-label", s.label, "-pid", strconv.Itoa(s.cmd.Process.Pid), "-json", "-", "-certs", f.certs)
	addr := s.plain
	if sc.tls {
		addr = s.tls
	}
	args = append(args, "-addr", addr)
	if sc.fresh {
		args = append(args, "-hold", f.hold.String())
	} else {
		args = append(args, "-warm", f.warm.String(), "-dur", f.dur.String(), "-drain", "300ms")
	}
	out, err := exec.Command(f.mqload, args...).Output() //nolint:gosec // the operator names the binary
	if err != nil {
		return result{}, fmt.Errorf("run %s %s: %w", f.mqload, strings.Join(args, " "), err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	if f.out != "" {
		if err := appendLine(f.out, line); err != nil {
			return result{}, err
		}
	}
	return parse(line, sc.fresh)
}

func appendLine(name, line string) error {
	w, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, line)
	return errors.Join(err, w.Close())
}

func parse(line string, fresh bool) (result, error) {
	var doc struct {
		CPU     float64                       `json:"cpu_s_per_M_out"`
		Rate    float64                       `json:"recv_per_s"`
		Conns   float64                       `json:"conns_per_s"`
		Other   float64                       `json:"other_util"`
		Lat     map[string]float64            `json:"lat_us"`
		Server  map[string]map[string]float64 `json:"server"`
		Lost    float64                       `json:"lost"`
		Missing float64                       `json:"missing_after_drain"`
		Bad     float64                       `json:"bad"`
		OOO     float64                       `json:"out_of_order"`
		Dup     float64                       `json:"dup"`
		Failed  float64                       `json:"failed"`
		Errors  any                           `json:"errors"`
	}
	if err := json.Unmarshal([]byte(line), &doc); err != nil {
		return result{}, fmt.Errorf("read the generator's result: %w", err)
	}
	r := result{cpu: doc.CPU, p99: doc.Lat["p99"], rate: doc.Rate, other: doc.Other}
	if fresh {
		r.rate, r.other = doc.Conns, 0
		for _, m := range doc.Server {
			r.kb = m["rss_kb_per_conn"]
		}
	}
	if doc.Lost+doc.Missing+doc.Bad+doc.OOO+doc.Dup+doc.Failed > 0 || doc.Errors != nil {
		r.faults = fmt.Sprintf("lost %g missing %g bad %g out of order %g duplicate %g failed %g %v", doc.Lost, doc.Missing, doc.Bad, doc.OOO, doc.Dup, doc.Failed, doc.Errors)
	}
	return r, nil
}
