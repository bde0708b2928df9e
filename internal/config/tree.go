package config

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
)

// tree is a decoded value in its canonical form: defaults filled, units normal, secrets as their names. Immutable once
// its entry is complete.
type tree struct {
	text   string
	isText bool   // text rather than a number, a word or nothing
	env    string // the environment variable that text comes from
	list   bool
	keys   []string // of a map
	kids   []*tree  // of a list or, beside keys, of a map
	isMap  bool
}

func (t *tree) add(key string, kid *tree) {
	if kid != nil {
		t.keys = append(t.keys, key)
		t.kids = append(t.kids, kid)
	}
}

func (t *tree) empty() bool { return t.isMap && len(t.kids) == 0 }

// write feeds the canonical form, in which the order of keys means nothing.
func (t *tree) write(w io.Writer) {
	put := func(mark, s string) { _, _ = io.WriteString(w, mark+strconv.Itoa(len(s))+":"+s) }
	switch {
	case t.isMap:
		put("m", strconv.Itoa(len(t.keys)))
		order := make([]int, len(t.keys))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return strings.Compare(t.keys[a], t.keys[b]) })
		for _, i := range order {
			put("k", t.keys[i])
			t.kids[i].write(w)
		}
	case t.list:
		put("l", strconv.Itoa(len(t.kids)))
		for _, k := range t.kids {
			k.write(w)
		}
	case t.isText:
		put("t", t.text)
	default:
		put("v", t.text)
	}
}

// sum is a SHA-256 in hex over what feed writes.
func sum(feed func(h hash.Hash)) string {
	h := sha256.New()
	feed(h)
	return hex.EncodeToString(h.Sum(nil))
}
