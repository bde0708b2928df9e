package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// pings is the process whose clients were connected before the storm. Owned by the storm.
type pings struct {
	cmd  *exec.Cmd
	stop io.WriteCloser
	said *bufio.Reader
}

// startPinger starts it and waits until all of its clients are connected. It is a process of its own so that the work of
// the storm's clients does not delay what it sees.
func startPinger(o *options, addr, dir string) (*pings, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &pings{cmd: exec.Command(self, "-pinger", "-addr", addr, "-dir", dir, "-established", strconv.Itoa(o.established), "-ping", o.ping.String(),
		"-tls", o.version, "-mutual="+strconv.FormatBool(o.mutual))}
	p.cmd.Stderr = os.Stderr
	if p.stop, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.said = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := p.said.ReadString('\n'); err != nil || line != "connected\n" {
		return nil, errors.Join(fmt.Errorf("the clients that ping are not connected: %q %w", line, err), p.cmd.Wait())
	}
	return p, nil
}

// end ends it and reads what it saw.
func (p *pings) end(f *figures) error {
	_ = p.stop.Close()
	var ns [3]int64
	_, err := fmt.Fscan(p.said, &f.pings, &ns[0], &ns[1], &ns[2])
	f.p50, f.p99, f.worst = time.Duration(ns[0]), time.Duration(ns[1]), time.Duration(ns[2])
	return errors.Join(err, p.cmd.Wait())
}

// pinger is that process: it connects, says so, pings until its input ends, and says what it saw.
func pinger(o *options) error {
	conf := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
	pem, err := os.ReadFile(filepath.Join(o.dir, "ca.pem"))
	if err != nil {
		return err
	}
	conf.RootCAs.AppendCertsFromPEM(pem)
	if o.mutual {
		pair, err := tls.LoadX509KeyPair(filepath.Join(o.dir, "client.pem"), filepath.Join(o.dir, "client.key"))
		if err != nil {
			return err
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	var there []*mqttConn
	for i := range o.established {
		c, err := open(o.addr, conf, "established-"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		defer c.Close()
		there = append(there, c)
	}
	time.Sleep(500 * time.Millisecond)
	fmt.Println("connected")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex // guards took and failed
	var took []time.Duration
	var failed error
	for i, c := range there {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * o.ping / time.Duration(len(there)))
			for ctx.Err() == nil {
				begin := time.Now()
				err := c.ping()
				d := time.Since(begin)
				mu.Lock()
				took = append(took, d)
				failed = errors.Join(failed, err)
				mu.Unlock()
				if err != nil {
					return
				}
				time.Sleep(o.ping - min(o.ping, d))
			}
		})
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	wg.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		return errors.New("no ping was answered")
	}
	fmt.Println(len(took), int64(took[len(took)/2]), int64(took[len(took)*99/100]), int64(took[len(took)-1]))
	return failed
}
