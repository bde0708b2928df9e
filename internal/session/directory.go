package session

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const shards = 64

// Directory finds the session of a client id, on whichever loop it lives. Safe for concurrent use.
type Directory struct {
	seed   maphash.Seed
	shards [shards]shard
	n      atomic.Int64
}

// shard is a part of the directory. Guarded by mu.
type shard struct {
	mu sync.Mutex
	m  map[string]*Session
}

// NewDirectory makes an empty one.
func NewDirectory() *Directory {
	d := &Directory{seed: maphash.MakeSeed()}
	for i := range d.shards {
		d.shards[i].m = make(map[string]*Session)
	}
	return d
}

func (d *Directory) shard(id string) *shard { return &d.shards[maphash.String(d.seed, id)%shards] }

// find returns the session of a client id.
func (d *Directory) find(id string) *Session {
	sh := d.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.m[id]
}

// claim enters s unless its client id is taken; it reports whether it did.
func (d *Directory) claim(s *Session) bool {
	sh := d.shard(s.ID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.m[s.ID] != nil {
		return false
	}
	sh.m[s.ID] = s
	d.n.Add(1)
	return true
}

// release takes s out.
func (d *Directory) release(s *Session) {
	sh := d.shard(s.ID)
	sh.mu.Lock()
	if sh.m[s.ID] == s {
		delete(sh.m, s.ID)
		d.n.Add(-1)
	}
	sh.mu.Unlock()
}

// Len is how many sessions there are, with and without a connection.
func (d *Directory) Len() int { return int(d.n.Load()) }
