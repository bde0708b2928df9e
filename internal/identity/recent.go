package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// recentKey is the keyed hash of a user, its password and the hash it was checked against.
type recentKey [sha256.Size]byte

// recent remembers for a while which passwords were found right, so that a storm of returning clients does not compute
// the same argon2id hashes again. It holds only hashes under a random key that lives as long as the process, and only of
// passwords that were right. It is bounded; where it is full, any entry makes place. Guarded by mu: until.
type recent struct {
	secret [32]byte // immutable after New
	ttl    time.Duration
	limit  int

	mu    sync.Mutex
	until map[recentKey]time.Time
}

func newRecent(ttl time.Duration, limit int) *recent {
	r := &recent{ttl: ttl, limit: limit, until: make(map[recentKey]time.Time)}
	_, _ = rand.Read(r.secret[:])
	return r
}

// key covers the verifier too: when the file gives the user another password, what was remembered no longer counts.
func (r *recent) key(rec *record, password []byte) (k recentKey) {
	h := hmac.New(sha256.New, r.secret[:])
	var n [4]byte
	for _, part := range [...][]byte{[]byte(rec.name), rec.secrets, password} {
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		_, _ = h.Write(n[:])
		_, _ = h.Write(part)
	}
	h.Sum(k[:0])
	return k
}

func (r *recent) has(k recentKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fresh(k)
}

// try is has without waiting for anybody: a loop may call it. It may miss.
func (r *recent) try(k recentKey) bool {
	if !r.mu.TryLock() {
		return false
	}
	defer r.mu.Unlock()
	return r.fresh(k)
}

func (r *recent) fresh(k recentKey) bool {
	t, ok := r.until[k]
	if !ok {
		return false
	}
	if time.Now().After(t) {
		delete(r.until, k)
		return false
	}
	return true
}

func (r *recent) add(k recentKey) {
	if r.ttl <= 0 || r.limit <= 0 {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.until[k]; !ok && len(r.until) >= r.limit {
		r.makePlace(now)
	}
	r.until[k] = now.Add(r.ttl)
}

// makePlace looks at a few entries, in the random order of maps, and removes those that are over, or else one of them.
func (r *recent) makePlace(now time.Time) {
	var last recentKey
	seen, removed := 0, false
	for k, t := range r.until {
		last = k
		if now.After(t) {
			delete(r.until, k)
			removed = true
		}
		if seen++; seen == 8 {
			break
		}
	}
	if !removed {
		delete(r.until, last)
	}
}

func (r *recent) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.until)
}
