package loop

import (
	"sync"
	"sync/atomic"
)

type gate struct {
	accepted, acceptErrors, ok, failed, resumed atomic.Int64
	refused                                     [NumRefusals]atomic.Int64
	wg                                          sync.WaitGroup
}

func newGate(*Options) *gate { return &gate{} }
func (g *gate) wait()        { g.wg.Wait() }
