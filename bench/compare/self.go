package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// own are the scenarios that `windrose bench mqtt` can run, for who has no other generator.
func own() map[string]string {
	return map[string]string{
		"p0": "--pubs 50 --subs 50 -q 0",
		"p1": "--pubs 50 --subs 50 -q 1",
		"p2": "--pubs 50 --subs 50 -q 2",
		"fo": "--pattern fanout --pubs 1 --subs 500 --window 8",
		"r5": "--pubs 50 --subs 50 -q 0 --rate 5000",
		"t0": "--pubs 50 --subs 50 -q 0",
	}
}

// onceOwn is once with `windrose bench mqtt`. The server's CPU is that of the whole run, connecting included.
func onceOwn(f *flags, sc scenario, s *server) (result, error) {
	scheme, addr := "mqtt://", s.plain
	args := append([]string{"bench", "mqtt", "--quiet", "-o", "json", "--duration", f.dur.String()}, strings.Fields(own()[sc.name])...)
	if sc.tls {
		scheme, addr = "mqtts://", s.tls
		args = append(args, "--insecure")
	}
	args = append(args, "--url", scheme+addr)
	before, err := cpuSeconds(s.cmd.Process.Pid)
	if err != nil {
		return result{}, err
	}
	out, err := exec.Command(f.windrose, args...).Output() //nolint:gosec // the operator names the binary
	var bad *exec.ExitError
	if err != nil && (!errors.As(err, &bad) || len(out) == 0) {
		return result{}, fmt.Errorf("run %s %s: %w", f.windrose, strings.Join(args, " "), err)
	}
	after, err := cpuSeconds(s.cmd.Process.Pid)
	if err != nil {
		return result{}, err
	}
	var doc struct {
		Delivered  float64            `json:"delivered"`
		Lost       float64            `json:"lost"`
		Duplicated float64            `json:"duplicated"`
		Reordered  float64            `json:"reordered"`
		Rate       float64            `json:"delivered_per_second"`
		Latency    map[string]float64 `json:"latency_ms"`
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return result{}, fmt.Errorf("read the result of windrose bench: %w", err)
	}
	r := result{cpu: (after - before) / max(doc.Delivered, 1) * 1e6, p99: doc.Latency["p99"] * 1000, rate: doc.Rate}
	if doc.Lost+doc.Duplicated+doc.Reordered > 0 {
		r.faults = fmt.Sprintf("lost %g duplicated %g reordered %g", doc.Lost, doc.Duplicated, doc.Reordered)
	}
	return r, nil
}

// ticks is the unit of /proc/PID/stat on every Linux that Go runs on.
const ticks = 100

// cpuSeconds is what a process has used so far.
func cpuSeconds(pid int) (float64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of %d: %w", pid, err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("read the CPU time of %d: short line", pid)
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / ticks, errors.Join(err1, err2)
}
