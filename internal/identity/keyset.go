package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The pauses between two readings of a key set.
const (
	keysAgain  = 10 * time.Second // after one that went well: a token with an unknown kid asks for one
	keysRetry  = time.Second      // after the first that failed; it doubles
	keysPauses = 5 * time.Minute  // at most
)

var errNoKeys = errors.New("no key set could be read yet")

// keys is a key set that is read again. Readers see one immutable set after the other; what failed to be read changes nothing.
// Safe for concurrent use.
type keys struct {
	source  string // for the log
	read    func(ctx context.Context) ([]byte, error)
	timeout time.Duration
	refresh time.Duration
	beside  func(work func()) bool // runs work in another goroutine; nil: there is none
	changed func()                 // called when a new set is in force
	meter   *Meter
	set     atomic.Pointer[keySet]

	mu     sync.Mutex
	flight chan struct{} // closed when the reading under way is over; nil: none. Guarded by mu.
	due    time.Time     // no reading before. Guarded by mu.
	done   time.Time     // the last that went well. Guarded by mu.
	fails  int           // in a row. Guarded by mu.
}

// update reads the set again, unless that was done a short while ago, or waits for who does already.
func (k *keys) update(ctx context.Context) {
	k.mu.Lock()
	flight := k.flight
	switch {
	case flight != nil:
		k.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
		}
		return
	case time.Now().Before(k.due):
		k.mu.Unlock()
		return
	}
	flight = make(chan struct{})
	k.flight = flight
	k.mu.Unlock()
	own, cancel := context.WithTimeout(context.Background(), k.timeout) // others wait for it too
	defer cancel()
	b, err := k.read(own)
	var s *keySet
	if err == nil {
		s, err = parseKeySet(b)
	}
	k.meter.fetched(err == nil)
	if err != nil {
		k.meter.warn("keys/"+k.source, "key set cannot be read; the known keys stay", slog.String("source", k.source), slog.String("error", err.Error()))
	}
	k.put(s)
	close(flight)
}

// put brings a set into force; nil: it could not be read.
func (k *keys) put(s *keySet) {
	now := time.Now()
	k.mu.Lock()
	k.flight = nil
	if s == nil {
		k.due = now.Add(min(keysRetry<<min(k.fails, 10), keysPauses))
		k.fails++
		k.mu.Unlock()
		return
	}
	k.fails, k.done, k.due = 0, now, now.Add(keysAgain)
	k.mu.Unlock()
	k.set.Store(s)
	if k.changed != nil {
		k.changed()
	}
}

// age begins another reading beside the caller where the set is old.
func (k *keys) age() {
	k.mu.Lock()
	now := time.Now()
	old := k.flight == nil && now.Sub(k.done) > k.refresh && !now.Before(k.due)
	k.mu.Unlock()
	if old && k.beside != nil {
		k.beside(func() { k.update(context.Background()) })
	}
}

// find returns the key that a token's header means; where it is not known, or no set was read yet, it is read again. The error
// is errNoKeys where there is no set.
func (k *keys) find(ctx context.Context, kid string, a *jwtAlgorithm) (key *jwk, known bool, err error) {
	s := k.set.Load()
	if s != nil {
		k.age()
		if key, known = s.find(kid, a); known {
			return key, known, nil
		}
	}
	k.update(ctx)
	if s = k.set.Load(); s == nil {
		return nil, false, errNoKeys
	}
	key, known = s.find(kid, a)
	return key, known, nil
}

// readFile is the read of a set in a file.
func readFile(path string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("open key set: %w", err)
		}
		defer func() { _ = f.Close() }()
		b, err := io.ReadAll(io.LimitReader(f, maxKeySet+1))
		if err != nil {
			return nil, fmt.Errorf("read key set: %w", err)
		}
		return b, nil
	}
}

// readURL is the read of a set at a URL.
func readURL(client *http.Client, where string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
		if err != nil {
			return nil, fmt.Errorf("make request: %w", err)
		}
		req.Header.Set("Accept", "application/jwk-set+json, application/json")
		res, err := client.Do(req)
		if err != nil {
			return nil, fmt.Errorf("get key set: %w", err)
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("get key set: status %d", res.StatusCode)
		}
		b, err := io.ReadAll(io.LimitReader(res.Body, maxKeySet+1))
		if err != nil {
			return nil, fmt.Errorf("read key set: %w", err)
		}
		return b, nil
	}
}

// checkURL refuses what would send credentials or fetch keys in clear text over a network.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return errors.New("must be a URL with a host")
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && !strings.EqualFold(u.Hostname(), "localhost") && (ip == nil || !ip.IsLoopback()) {
		return errors.New("http is for loopback addresses only: on the way anybody could decide who is admitted; use https")
	}
	if u.User != nil {
		return errors.New("must not hold a password")
	}
	return nil
}
