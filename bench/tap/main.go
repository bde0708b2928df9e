// Command tap measures what it costs a node that somebody watches single events: the server's CPU for each delivery, with
// nobody watching, and with a tap whose filter wants one event in 1,000 at full load. The runs alternate, each on a server
// of its own; medians are compared.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// config is that of the other measurements, on ports of its own.
const config = `windrose: v1
node: { name: bench, admin: "127.0.0.1:%s", data: %q }
listeners: { plain: { mqtt: { bind: "127.0.0.1:%s", anonymous: true } } }
acl:
  - { deny: publish, topic: "never/#" }
  - { allow: [publish, subscribe], topic: "#" }
limits: { per_client: { events: 10000000/s, burst: 10000000 } }
`

// mode is one way to run the server. Immutable.
type mode struct {
	name, binary string
	tap          []string // arguments of windrose tap; nil: nobody watches
}

// run is the result of one. Immutable.
type run struct {
	cpu     float64 // microseconds for each delivery
	records int     // that the tap showed
	faults  float64
}

func main() {
	windrose := flag.String("windrose", "bin/windrose", "the binary to measure, which also makes the load")
	base := flag.String("base", "", "a binary without tap, to compare the cost of not being watched")
	rounds := flag.Int("rounds", 5, "rounds; the medians are compared")
	dur := flag.Duration("duration", 5*time.Second, "of each run")
	load := flag.String("load", "--pubs 1000 --subs 1000 -q 0", "what windrose bench mqtt is told; topics must end in the numbers 0 to 999")
	flag.Parse()
	modes := []mode{
		{"off", *windrose, nil},
		{"off again", *windrose, nil},
		{"where, 1 in 1,000", *windrose, []string{"--where", `event.topic.endsWith("/7")`}},
		{"topic, 1 in 1,000", *windrose, []string{"--topic", "bench/+/7"}},
	}
	if *base != "" {
		modes = append(modes, mode{"base", *base, nil})
	}
	all := make([][]run, len(modes))
	for r := range *rounds {
		for i := range modes {
			i = (i + r) % len(modes) // nobody is always first
			res, err := once(*windrose, modes[i], *load, *dur)
			if err != nil {
				fmt.Fprintln(os.Stderr, "tap:", err)
				os.Exit(1)
			}
			all[i] = append(all[i], res)
			fmt.Fprintf(os.Stderr, "round %d  %-18s %.3f us/delivery  %d records  %.0f faults\n", r+1, modes[i].name, res.cpu, res.records, res.faults)
		}
	}
	off := median(all[0])
	for i, m := range modes {
		c := median(all[i])
		fmt.Printf("%-18s median %.3f us/delivery, %.3f x off\n", m.name, c, c/off)
	}
}

func median(rs []run) float64 {
	var v []float64
	for _, r := range rs {
		v = append(v, r.cpu)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// once runs a server, the load and perhaps a tap.
func once(windrose string, m mode, load string, dur time.Duration) (r run, err error) {
	dir, err := os.MkdirTemp("", "bench-tap")
	if err != nil {
		return r, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a folder for the time being
	mqtt, admin := freePort(), freePort()
	file := filepath.Join(dir, "windrose.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, admin, filepath.Join(dir, "data"), mqtt), 0o600); err != nil {
		return r, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := exec.CommandContext(ctx, m.binary, "run", "-c", file) //nolint:gosec // the operator names the binary
	if err := server.Start(); err != nil {
		return r, fmt.Errorf("start %s: %w", m.binary, err)
	}
	defer func() { _ = server.Process.Signal(os.Interrupt); _ = server.Wait() }() // its end says nothing here
	if err := listens(mqtt); err != nil {
		return r, err
	}
	var shown strings.Builder
	if m.tap != nil {
		args := append([]string{"tap", "--admin", "127.0.0.1:" + admin, "-o", "name", "--for", "5m"}, m.tap...)
		watch := exec.CommandContext(ctx, windrose, args...) //nolint:gosec // the operator names the binary
		watch.Stdout = &shown
		if err := watch.Start(); err != nil {
			return r, fmt.Errorf("start tap: %w", err)
		}
		time.Sleep(300 * time.Millisecond)
		defer func() {
			_ = watch.Process.Signal(os.Interrupt)
			_ = watch.Wait() // interrupted: its exit code says nothing
			r.records = strings.Count(shown.String(), "\n")
		}()
	}
	before, err := cpu(server.Process.Pid)
	if err != nil {
		return r, err
	}
	args := append([]string{"bench", "mqtt", "--quiet", "-o", "json", "--url", "mqtt://127.0.0.1:" + mqtt, "--duration", dur.String()}, strings.Fields(load)...)
	out, err := exec.Command(windrose, args...).Output() //nolint:gosec // the operator names the binary
	if len(out) == 0 {
		return r, fmt.Errorf("run the load: %w", err)
	}
	after, err := cpu(server.Process.Pid)
	if err != nil {
		return r, err
	}
	var doc struct {
		Delivered, Lost, Duplicated, Reordered float64
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return r, fmt.Errorf("read the result of the load: %w", err)
	}
	r.cpu, r.faults = (after-before)/max(doc.Delivered, 1)*1e6, doc.Lost+doc.Duplicated+doc.Reordered
	return r, nil
}

func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "0" // the server will say that it cannot listen
	}
	defer func() { _ = l.Close() }() // it was only asked for
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func listens(port string) error {
	for range 500 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			return c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the server does not listen on %s", port)
}

// cpu is the user and system time of a process, in seconds.
func cpu(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err := strconv.ParseFloat(f[11], 64)
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %d: %w", pid, err)
	}
	sys, err := strconv.ParseFloat(f[12], 64)
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %d: %w", pid, err)
	}
	return (user + sys) / 100, nil // USER_HZ
}
