// Command policy measures what access rules, a limit and a condition cost: the server's CPU for each delivery of pairs of QoS 1
// with bench/policy.yaml, and with a configuration that has none of them. The runs alternate, each on a server of its own;
// medians are compared.
package main

import (
	"bytes"
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

// none is the configuration without policy.
const none = `windrose: v1
node: { name: bench, admin: "${env.BENCH_ADMIN}", data: "${env.BENCH_DATA}" }
listeners: { plain: { mqtt: { bind: "${env.BENCH_MQTT}", anonymous: true } } }
`

// goal is how much more CPU the policy may take.
const goal = 1.6

// tool is what is measured, and by what. Immutable.
type tool struct {
	windrose, mqload, load string
	dur                    time.Duration
}

func main() {
	var t tool
	flag.StringVar(&t.windrose, "windrose", "bin/windrose", "the binary to measure")
	flag.StringVar(&t.mqload, "mqload", "", "the load generator; without it windrose bench mqtt makes the load")
	flag.StringVar(&t.load, "load", "", "what the load generator is told; 50 pairs of QoS 1 when empty")
	flag.DurationVar(&t.dur, "duration", 5*time.Second, "of each run")
	policy := flag.String("policy", "bench/policy.yaml", "the configuration with policy")
	rounds := flag.Int("rounds", 5, "rounds; the medians are compared")
	flag.Parse()
	names := []string{"none", "policy"}
	all := map[string][]float64{}
	for r := range *rounds {
		for i := range names {
			name := names[(i+r)%len(names)] // nobody is always first
			file := *policy
			if name == "none" {
				file = ""
			}
			cost, faults, err := t.once(file)
			if err != nil {
				fmt.Fprintln(os.Stderr, "policy:", err)
				os.Exit(1)
			}
			all[name] = append(all[name], cost)
			fmt.Fprintf(os.Stderr, "round %d  %-8s %.3f us/delivery  %.0f faults\n", r+1, name, cost, faults)
		}
	}
	base := median(all["none"])
	ratio := median(all["policy"]) / base
	fmt.Printf("none    median %.3f us/delivery\npolicy  median %.3f us/delivery, %.2f x none (goal <= %.1f)\n", base, median(all["policy"]), ratio, goal)
	if ratio > goal {
		os.Exit(1)
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// once runs a server of a configuration ("": none) and the load, and returns microseconds of CPU for each delivery.
func (t *tool) once(file string) (cost, faults float64, err error) {
	dir, err := os.MkdirTemp("", "bench-policy")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a folder for the time being
	if file == "" {
		file = filepath.Join(dir, "none.yaml")
		if err := os.WriteFile(file, []byte(none), 0o600); err != nil {
			return 0, 0, err
		}
	}
	addr := freeAddr()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := exec.CommandContext(ctx, t.windrose, "run", "-c", file) //nolint:gosec // the operator names the binary
	server.Env = append(os.Environ(), "BENCH_MQTT="+addr, "BENCH_ADMIN="+freeAddr(), "BENCH_DATA="+filepath.Join(dir, "data"))
	if err := server.Start(); err != nil {
		return 0, 0, fmt.Errorf("start %s: %w", t.windrose, err)
	}
	defer func() { _ = server.Process.Signal(os.Interrupt); _ = server.Wait() }() // its end says nothing here
	if err := listens(addr); err != nil {
		return 0, 0, err
	}
	before, err := cpu(server.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	out, err := t.loadCommand(addr, server.Process.Pid).Output()
	if len(out) == 0 {
		return 0, 0, fmt.Errorf("run the load: %w", err)
	}
	after, err := cpu(server.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	var doc struct {
		Delivered, Lost, Duplicated, Reordered float64 // windrose bench

		CPU     float64 `json:"cpu_s_per_M_out"` // mqload, of the measured time alone
		Missing float64 `json:"missing_after_drain"`
		Bad     float64 `json:"bad"`
		Dup     float64 `json:"dup"`
		OOO     float64 `json:"out_of_order"`
	}
	if i := bytes.IndexByte(out, '{'); i >= 0 { // a line for people may stand before it
		out = out[i:]
	}
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&doc); err != nil {
		return 0, 0, fmt.Errorf("read the result of the load: %w", err)
	}
	faults = doc.Lost + doc.Missing + doc.Bad + doc.Duplicated + doc.Dup + doc.Reordered + doc.OOO
	switch {
	case doc.CPU > 0:
		return doc.CPU, faults, nil
	case doc.Delivered > 0:
		return (after - before) / doc.Delivered * 1e6, faults, nil
	}
	return 0, 0, fmt.Errorf("the load delivered nothing: %s", out)
}

// loadCommand makes the load.
func (t *tool) loadCommand(addr string, pid int) *exec.Cmd {
	if t.mqload != "" {
		load := t.load
		if load == "" {
			load = "-s pairs -qos 1"
		}
		return exec.Command(t.mqload, append([]string{"-addr", addr, "-json", "-", "-pid", strconv.Itoa(pid), "-dur", t.dur.String()}, strings.Fields(load)...)...) //nolint:gosec // the operator names the binary
	}
	load := t.load
	if load == "" {
		load = "--pubs 50 --subs 50 -q 1"
	}
	args := append([]string{"bench", "mqtt", "--quiet", "-o", "json", "--url", "mqtt://" + addr, "--duration", t.dur.String()}, strings.Fields(load)...)
	return exec.Command(t.windrose, args...) //nolint:gosec // the operator names the binary
}

func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0" // the server will say that it cannot listen
	}
	defer func() { _ = l.Close() }() // it was only asked for
	return l.Addr().String()
}

func listens(addr string) error {
	for range 500 {
		if c, err := net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the server does not listen on %s", addr)
}

// cpu is the user and system time of a process, in seconds.
func cpu(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ticks := 0.0
	for _, i := range []int{11, 12} { // user and system
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return 0, fmt.Errorf("read the processor time of %d: %w", pid, err)
		}
		ticks += v
	}
	return ticks / 100, nil // USER_HZ
}
