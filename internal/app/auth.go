package app

import (
	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/identity"
)

// stagedAuth is an authenticator that stays over a reload, with what it remembers, and reads its files again.
type stagedAuth interface {
	identity.Authenticator
	Stage() (commit func(), err error)
}

// keptAuth is an authenticator with the key by which it is found again. Immutable.
type keptAuth struct {
	stagedAuth
	hash string
}

// meter counts what authenticators decide: the counters are the node's, whatever graph is in force.
func (g *graph) meter() *identity.Meter {
	return identity.NewMeter(g.metrics, g.limited.For("auth"), g.logFor("auth"))
}

// kept is the authenticator of the same specification, its files read again, or a new one.
func (g *graph) kept(e *config.Entry, fresh func(identity.Environment) (stagedAuth, error)) (identity.Authenticator, error) {
	if g.prev != nil {
		for _, k := range g.prev.auths {
			if k.hash != e.Hash {
				continue
			}
			commit, err := k.Stage()
			if err != nil {
				return nil, err
			}
			g.commits = append(g.commits, commit)
			g.auths = append(g.auths, k)
			return k.stagedAuth, nil
		}
	}
	a, err := fresh(identity.Environment{Meter: g.meter(), Beside: g.slow.run})
	if err != nil {
		return nil, err
	}
	g.auths = append(g.auths, keptAuth{a, e.Hash})
	return a, nil
}

func (g *graph) jwtOf(e *config.Entry, s identity.JWTSpec) (identity.Authenticator, error) {
	return g.kept(e, func(env identity.Environment) (stagedAuth, error) { return identity.NewJWT(s, env) })
}
