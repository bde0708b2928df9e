package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience is how long a script waits for something that should happen at once; the machine may be busy.
const patience = 20 * time.Second

type worldKey struct{}

// world is what one script started. Owned by the script's goroutine; the sinks have locks of their own.
type world struct {
	dir   string // the script's folder
	bin   string // the folder of the binary
	procs map[string]*process
	sinks map[string]*sink
	fail  func(format string, args ...any) // for what is found when the script is over
}

// process is one program in the background, its output in files of the script's folder. Owned by the script.
type process struct {
	name    string
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended
	out     string        // file of standard output
	log     string        // file of standard error
	ours    bool          // the product: its log is searched for races and panics
	stopped bool          // the script asked it to end
}

func newWorld(t *testing.T, dir, bin string) *world {
	return &world{dir: dir, bin: bin, fail: t.Errorf, procs: map[string]*process{}, sinks: map[string]*sink{}}
}

// end stops what the script left running.
func (w *world) end() {
	for _, p := range w.procs {
		_ = p.stop(syscall.SIGKILL, patience)
	}
	for _, s := range w.sinks {
		s.close()
	}
}

// start runs a program in the background.
func (w *world) start(name string, env []string, dir string, argv ...string) (*process, error) {
	if old := w.procs[name]; old != nil && !old.ended() {
		return nil, fmt.Errorf("%s runs already", name)
	}
	p := &process{name: name, done: make(chan struct{}), out: filepath.Join(w.dir, name+".out"), log: filepath.Join(w.dir, name+".log")}
	out, err := os.OpenFile(p.out, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create output of %s: %w", name, err)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("create log of %s: %w", name, err)
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = env, dir, out, log
	err = p.cmd.Start()
	_, _ = out.Close(), log.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	w.procs[name] = p
	go func() { // ended by the process, which end stops
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop sends a signal and waits until the process is gone; in the end it kills it and says so.
func (p *process) stop(sig syscall.Signal, wait time.Duration) error {
	p.stopped = true
	if !p.ended() {
		_ = p.cmd.Process.Signal(sig)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(wait):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s does not stop on %v in %v", p.name, sig, wait)
	}
}

// trouble is what must never be in the product's log: races, panics, and turns of a loop that took too long, which only
// the binary of TestTurns tells.
var trouble = regexp.MustCompile(`(?m)^(WARNING: DATA RACE|panic: |fatal error: |SIGSEGV|.*turn of the event loop over budget).*`)

// check reads a process's log for races and panics, and for long turns where the machine was not busy with others: the
// time of a turn is by the clock.
func (p *process) check() error {
	for _, f := range []string{p.log, p.out} {
		text, err := os.ReadFile(f)
		if err != nil || !p.ours {
			continue
		}
		for _, at := range trouble.FindAllIndex(text, -1) {
			if bytes.Contains(text[at[0]:at[1]], []byte("over budget")) && crowded() {
				continue
			}
			return fmt.Errorf("%s: %s", filepath.Base(f), text[at[0]:min(len(text), at[0]+4000)])
		}
	}
	return nil
}

// crowded says whether more wants to run than twice what this machine has processors for: our own tests do not.
func crowded() bool {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return false
	}
	var load float64
	_, err = fmt.Sscan(string(text), &load)
	return err == nil && load > float64(2*runtime.NumCPU())
}

// until calls f until it is content, or returns its last complaint.
func until(wait time.Duration, f func() error) error {
	end := time.Now().Add(wait)
	for {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// get reads a page of a node's HTTP address.
func get(url string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("make request: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("get %s: %w", url, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("read %s: %w", url, err)
	}
	return res.StatusCode, body, nil
}

// metric sums the series of a metric whose labels hold all of the given texts (key="value"). found is false when there
// is no such series.
func metric(page []byte, name string, labels []string) (sum float64, found bool) {
	for line := range bytes.Lines(page) {
		line = bytes.TrimSpace(line)
		rest, ok := bytes.CutPrefix(line, []byte(name))
		if !ok || len(rest) == 0 || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		all := true
		for _, l := range labels {
			all = all && bytes.Contains(rest, []byte(l))
		}
		v, err := strconv.ParseFloat(string(rest[bytes.LastIndexByte(rest, ' ')+1:]), 64)
		if all && err == nil {
			sum, found = sum+v, true
		}
	}
	return sum, found
}

// nextPort walks through ports below those that the kernel gives to clients, from a place of this process's own.
var nextPort atomic.Uint32

// freePort returns a port of 127.0.0.1 that nobody listens on.
func freePort() (string, error) {
	const low, n = 20000, 12000
	for range 200 {
		port := strconv.Itoa(low + (os.Getpid()*97+int(nextPort.Add(1)))%n)
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		_ = l.Close()
		return port, nil
	}
	return "", errors.New("no free port")
}

// sink is an HTTP server that records what it is sent and answers as told. Guarded by mu.
type sink struct {
	mu      sync.Mutex
	answers []answer // the last one stays
	got     []string // one text per request
	server  *http.Server
	hang    chan struct{} // closed at the end: frees requests that hang
}

// answer is one status, and the seconds of its Retry-After; status 0 holds the request until the sink ends.
type answer struct {
	status     int
	retryAfter string
}

// newSink listens on a port of 127.0.0.1.
func newSink(port string, answers []answer) (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return nil, fmt.Errorf("listen for the sink: %w", err)
	}
	s := &sink{answers: answers, hang: make(chan struct{})}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.server.Serve(l) }() // ended by close
	return s, nil
}

func (s *sink) close() {
	s.mu.Lock()
	select {
	case <-s.hang:
	default:
		close(s.hang)
	}
	s.mu.Unlock()
	_ = s.server.Close()
}

// ServeHTTP records the request: status, method, path, protocol, headers in order of their names, body.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var b bytes.Buffer
	s.mu.Lock()
	a := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	fmt.Fprintf(&b, "%d %s %s %s\n", a.status, r.Method, r.URL.RequestURI(), r.Proto)
	_ = r.Header.Write(&b)
	fmt.Fprintf(&b, "body: %s\n", body)
	s.got = append(s.got, b.String())
	s.mu.Unlock()
	if a.status == 0 {
		select {
		case <-s.hang:
		case <-r.Context().Done():
		}
		return
	}
	if a.retryAfter != "" {
		w.Header().Set("Retry-After", a.retryAfter)
	}
	w.WriteHeader(a.status)
}

// dial says whether somebody listens on a port of 127.0.0.1.
func dial(port string) error {
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	return c.Close()
}
