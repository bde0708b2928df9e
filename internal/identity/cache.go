package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// cache remembers answers under a keyed hash of the credential they were given for; the credential itself is not kept. It is
// bounded; where it is full, any entry makes place, those that are over first. Guarded by mu: m.
type cache[V any] struct {
	secret [32]byte // immutable after New
	limit  int

	mu sync.Mutex
	m  map[recentKey]cached[V]
}

// cached is one answer. Immutable.
type cached[V any] struct {
	v     V
	until time.Time
}

func newCache[V any](limit int) *cache[V] {
	c := &cache[V]{limit: limit, m: make(map[recentKey]cached[V])}
	_, _ = rand.Read(c.secret[:])
	return c
}

// key is the hash of parts, each with its length.
func (c *cache[V]) key(parts ...[]byte) (k recentKey) {
	h := hmac.New(sha256.New, c.secret[:])
	var n [4]byte
	for _, p := range parts {
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		_, _ = h.Write(n[:])
		_, _ = h.Write(p)
	}
	h.Sum(k[:0])
	return k
}

// get finds an answer that is not over. wait false is for loops: it may miss instead of waiting for somebody.
func (c *cache[V]) get(k recentKey, now time.Time, wait bool) (v V, ok bool) {
	if wait {
		c.mu.Lock()
	} else if !c.mu.TryLock() {
		return v, false
	}
	defer c.mu.Unlock()
	e, ok := c.m[k]
	if ok && now.After(e.until) {
		delete(c.m, k)
		return v, false
	}
	return e.v, ok
}

func (c *cache[V]) put(k recentKey, v V, now, until time.Time) {
	if c.limit <= 0 || !until.After(now) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.m[k]; !ok && len(c.m) >= c.limit {
		c.makePlace(now)
	}
	c.m[k] = cached[V]{v, until}
}

// makePlace looks at a few entries, in the random order of maps, and removes those that are over, or else one of them.
func (c *cache[V]) makePlace(now time.Time) {
	var last recentKey
	seen, removed := 0, false
	for k, e := range c.m {
		last = k
		if now.After(e.until) {
			delete(c.m, k)
			removed = true
		}
		if seen++; seen == 8 {
			break
		}
	}
	if !removed {
		delete(c.m, last)
	}
}

func (c *cache[V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.m)
}

func (c *cache[V]) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.m)
}
