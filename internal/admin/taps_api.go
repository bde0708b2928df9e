package admin

import (
	"strconv"
	"sync"
	"time"

	"github.com/windrose-edc/windrose/internal/tap"
)

// OpenTap is one of the taps that somebody reads now.
type OpenTap struct {
	ID      string    `json:"id"`
	By      string    `json:"by" doc:"Who reads it."`
	Remote  string    `json:"remote,omitempty"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until" doc:"When it ends by itself."`
	Where   string    `json:"where,omitempty"`
	Topic   string    `json:"topic,omitempty"`
	Client  string    `json:"client,omitempty"`
	Payload bool      `json:"payload" doc:"Payloads are shown to it."`
}

// openTaps are the taps that are open, in the order in which they were opened. Guarded by mu.
type openTaps struct {
	mu   sync.Mutex
	last uint64
	list []*OpenTap // what is in it is never written
}

// add notes a tap; the returned function takes it out again.
func (o *openTaps) add(t *tap.Tap, who Caller, in *tapInput) (remove func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	h := &OpenTap{ID: strconv.FormatUint(o.last, 10), By: who.Name, Remote: who.Remote, Since: time.Now().UTC(), Until: t.Until().UTC(),
		Where: in.Where, Topic: in.Topic, Client: in.Client, Payload: in.Payload}
	o.list = append(o.list, h)
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		for i, x := range o.list {
			if x == h {
				o.list = append(o.list[:i:i], o.list[i+1:]...)
				return
			}
		}
	}
}

// rows are the open taps as the API shows them.
func (o *openTaps) rows() []OpenTap {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []OpenTap
	for _, h := range o.list {
		out = append(out, *h)
	}
	return out
}
