// Command storm measures a storm of TLS connections on Windrose against haproxy that terminates TLS in front of the same
// Windrose: CPU of the server for each connection that does a handshake, CONNECT and CONNACK, and how long clients that
// were connected before wait for PINGRESP meanwhile. The servers take turns, round by round, and the median counts. It
// makes its certificates, starts and ends the servers, and speaks with loopback only.
//
// # Concurrency
//
// One server is under load at a time; the goroutines of a storm end before its figures are read.
package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// options are the flags. Immutable after main read them.
type options struct {
	windrose, haproxy string
	rounds            int
	connections       int // of each storm
	at                int // once
	established       int // clients that ping meanwhile
	ping              time.Duration
	version           string
	resume, mutual    bool
	hybrid            bool
	pinger            bool // this process is the clients that ping
	addr, dir         string
}

func main() {
	var o options
	flag.StringVar(&o.windrose, "windrose", "bin/windrose", "the product")
	flag.StringVar(&o.haproxy, "haproxy", "haproxy", "Debian's haproxy")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; the median counts")
	flag.IntVar(&o.connections, "connections", 4000, "connections of each storm")
	flag.IntVar(&o.at, "at", 32, "handshakes at once")
	flag.IntVar(&o.established, "established", 100, "clients that are connected before and ping")
	flag.DurationVar(&o.ping, "ping", 100*time.Millisecond, "how often each of them pings")
	flag.StringVar(&o.version, "tls", "1.3", "1.2 or 1.3")
	flag.BoolVar(&o.resume, "resume", false, "resume sessions by their tickets")
	flag.BoolVar(&o.mutual, "mutual", false, "show client certificates")
	flag.BoolVar(&o.hybrid, "hybrid", false, "offer the key exchange with ML-KEM too, which Windrose takes and OpenSSL 3.0 does not know")
	flag.BoolVar(&o.pinger, "pinger", false, "be the clients that ping: what this program starts itself as")
	flag.StringVar(&o.addr, "addr", "", "with -pinger: the server")
	flag.StringVar(&o.dir, "dir", "", "with -pinger: the folder of the certificates")
	flag.Parse()
	do := run
	if o.pinger {
		do = pinger
	}
	if err := do(&o); err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(1)
	}
}

// server is one candidate. Immutable while it runs.
type server struct {
	name    string
	port    string
	counted []*exec.Cmd // whose CPU counts
	behind  []*exec.Cmd // whose CPU is told beside it
}

// figures are those of one storm. Immutable.
type figures struct {
	cpu, behind float64 // ms for each connection
	rate        float64 // connections a second
	p50, p99    time.Duration
	worst       time.Duration
	pings       int
	failed      int64
}

func run(o *options) (err error) {
	dir, err := os.MkdirTemp("", "storm-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	conf, err := certificates(dir, o)
	if err != nil {
		return err
	}
	var started []*exec.Cmd
	defer func() {
		for _, c := range started {
			_ = c.Process.Signal(syscall.SIGTERM)
		}
		for _, c := range started {
			_ = c.Wait()
		}
	}()
	start := func(name string, argv ...string) (*exec.Cmd, error) {
		log, err := os.Create(filepath.Join(dir, name+".log"))
		if err != nil {
			return nil, err
		}
		defer func() { _ = log.Close() }() // the program has its own descriptor
		c := exec.Command(argv[0], argv[1:]...)
		c.Dir, c.Stdout, c.Stderr = dir, log, log
		if err := c.Start(); err != nil {
			return nil, fmt.Errorf("start %s: %w", name, err)
		}
		started = append(started, c)
		return c, nil
	}
	candidates, err := setUp(o, dir, start)
	if err != nil {
		return err
	}
	all := map[string][]figures{}
	for round := range o.rounds {
		for _, s := range candidates {
			f, err := storm(o, s, conf, dir)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			fmt.Printf("round %d  %-9s %.3f ms CPU each (behind it %.3f), %.0f/s, PINGRESP p50 %v p99 %v worst %v of %d, failed %d\n", round+1, s.name,
				f.cpu, f.behind, f.rate, f.p50.Round(time.Microsecond), f.p99.Round(time.Microsecond), f.worst.Round(time.Microsecond), f.pings, f.failed)
			all[s.name] = append(all[s.name], f)
		}
	}
	median := func(name string, of func(figures) float64) float64 {
		var x []float64
		for _, f := range all[name] {
			x = append(x, of(f))
		}
		slices.Sort(x)
		return x[len(x)/2]
	}
	cpu := func(f figures) float64 { return f.cpu }
	chain := func(f figures) float64 { return f.cpu + f.behind }
	p99 := func(f figures) float64 { return f.p99.Seconds() * 1000 }
	a, b := candidates[0].name, candidates[1].name
	fmt.Printf("median: %s %.3f ms, %s %.3f ms: ratio %.3f (goal 0.8); with what stands behind haproxy: ratio %.3f\n", a, median(a, cpu), b, median(b, cpu),
		median(a, cpu)/median(b, cpu), median(a, chain)/median(b, chain))
	fmt.Printf("median p99 of PINGRESP: %s %.2f ms (goal 50), %s %.2f ms\n", a, median(a, p99), b, median(b, p99))
	return nil
}

const windroseConf = `windrose: v1
node: { data: %s }
tls: { main: { cert: server.pem, key: server.key%s } }
listeners:
  tls: { mqtt: { bind: "127.0.0.1:%s", anonymous: true, tls: main } }
  tcp: { mqtt: { bind: "127.0.0.1:%s", anonymous: true } }
`

// haproxyConf has haproxy's defaults for TLS, a thread for each processor, and no log of connections.
const haproxyConf = `global
  maxconn 5000
  nbthread %d
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:%s ssl crt both.pem%s
  default_backend b
backend b
  server w 127.0.0.1:%s
`

// setUp starts a Windrose that is measured, another one, and a haproxy in front of that.
func setUp(o *options, dir string, start func(string, ...string) (*exec.Cmd, error)) ([]server, error) {
	ports, err := freePorts(5)
	if err != nil {
		return nil, err
	}
	program, err := exec.LookPath(o.windrose)
	if err != nil {
		return nil, err
	}
	if program, err = filepath.Abs(program); err != nil {
		return nil, err
	}
	ask, verify := "", ""
	if o.mutual {
		ask, verify = ", client_ca: ca.pem, client: require", " ca-file ca.pem verify required"
	}
	threads := len(strings.Fields(processors()))
	for name, text := range map[string]string{
		"a.yaml": fmt.Sprintf(windroseConf, "a", ask, ports[0], ports[1]), "b.yaml": fmt.Sprintf(windroseConf, "b", ask, ports[2], ports[3]),
		"haproxy.cfg": fmt.Sprintf(haproxyConf, threads, ports[4], verify, ports[3]),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	a, err := start("windrose", program, "run", "-c", "a.yaml")
	if err != nil {
		return nil, err
	}
	b, err := start("behind", program, "run", "-c", "b.yaml")
	if err != nil {
		return nil, err
	}
	h, err := start("haproxy", o.haproxy, "-db", "-f", "haproxy.cfg")
	if err != nil {
		return nil, err
	}
	for _, p := range []string{ports[0], ports[3], ports[4]} {
		if err := await(p); err != nil {
			said := ""
			for _, name := range []string{"windrose", "behind", "haproxy"} {
				text, _ := os.ReadFile(filepath.Join(dir, name+".log")) // what there is
				said += fmt.Sprintf("\n[%s]\n%s", name, text)
			}
			return nil, fmt.Errorf("%w%s", err, said)
		}
	}
	return []server{{"windrose", ports[0], []*exec.Cmd{a}, nil}, {"haproxy", ports[4], []*exec.Cmd{h}, []*exec.Cmd{b}}}, nil
}

// processors is a word for each processor.
func processors() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "1"
	}
	return strings.Repeat("x ", max(1, strings.Count(string(text), "processor\t")))
}

// storm opens the connections, while the clients that are there already, in a process of their own, look at the server.
func storm(o *options, s server, conf *tls.Config, dir string) (f figures, err error) {
	addr := "127.0.0.1:" + s.port
	if o.resume {
		conf = conf.Clone()
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(64)
	}
	p, err := startPinger(o, addr, dir)
	if err != nil {
		return f, err
	}
	before, behind, err := cpuOf(s)
	if err != nil {
		return f, errors.Join(err, p.end(&f))
	}
	var openers sync.WaitGroup
	var next, failed atomic.Int64
	begin := time.Now()
	for range o.at {
		openers.Go(func() {
			for n := next.Add(1); n <= int64(o.connections); n = next.Add(1) {
				c, err := open(addr, conf, "storm-"+strconv.FormatInt(n, 10))
				if err != nil {
					failed.Add(1)
					continue
				}
				_ = c.Close()
			}
		})
	}
	openers.Wait()
	wall := time.Since(begin)
	after, behindAfter, err := cpuOf(s)
	if err = errors.Join(err, p.end(&f)); err != nil {
		return f, err
	}
	n := float64(o.connections)
	f.cpu, f.behind, f.rate, f.failed = (after-before)*1000/n, (behindAfter-behind)*1000/n, n/wall.Seconds(), failed.Load()
	return f, nil
}

// cpuOf is the processor time, in seconds, of a candidate and of what stands behind it.
func cpuOf(s server) (own, behind float64, err error) {
	sum := func(cs []*exec.Cmd) (total float64) {
		for _, c := range cs {
			text, rerr := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
			if rerr != nil {
				err = rerr
				return 0
			}
			fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
			for _, i := range []int{11, 12} { // utime, stime
				ticks, perr := strconv.ParseFloat(fields[i], 64)
				err = errors.Join(err, perr)
				total += ticks / 100
			}
		}
		return total
	}
	own = sum(s.counted)
	return own, sum(s.behind), err
}

// mqttConn is a client that can do what a storm needs. One goroutine at a time.
type mqttConn struct {
	net.Conn
	r *bufio.Reader
}

// open does the handshake, CONNECT (3.1.1) and CONNACK.
func open(addr string, conf *tls.Config, id string) (*mqttConn, error) {
	nc, err := (&net.Dialer{Timeout: 10 * time.Second}).Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(60 * time.Second))
	c := &mqttConn{Conn: tls.Client(nc, conf)}
	c.r = bufio.NewReaderSize(c.Conn, 64)
	body := append([]byte("\x00\x04MQTT\x04\x02\x00\x3c\x00"), byte(len(id)))
	body = append(body, id...)
	var ack [4]byte
	if _, err = c.Write(append([]byte{0x10, byte(len(body))}, body...)); err == nil {
		err = c.read(ack[:])
	}
	if err == nil && (ack[0] != 0x20 || ack[3] != 0) {
		err = fmt.Errorf("CONNACK % x", ack)
	}
	if err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return c, nil
}

func (c *mqttConn) ping() error {
	if _, err := c.Write([]byte{0xc0, 0}); err != nil {
		return err
	}
	var b [2]byte
	return c.read(b[:])
}

func (c *mqttConn) read(b []byte) error {
	for n := 0; n < len(b); {
		k, err := c.r.Read(b[n:])
		if n += k; err != nil {
			return err
		}
	}
	return nil
}
