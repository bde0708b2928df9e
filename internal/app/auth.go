package app

import (
	"slices"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/identity"
)

// stagedAuth is an authenticator that stays over a reload, with what it remembers, and reads its files again.
type stagedAuth interface {
	identity.Authenticator
	Stage() (commit func(), err error)
}

// keptAuth is an authenticator with the key by which it is found again. Immutable once its graph is in force.
type keptAuth struct {
	stagedAuth
	hash   string
	unlist func()
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
	k := &keptAuth{stagedAuth: a, hash: e.Hash}
	g.auths = append(g.auths, k)
	g.commits = append(g.commits, func() { k.unlist = g.publishAuth(a) })
	return a, nil
}

// publishAuth offers what an authenticator holds; the returned function takes it out again.
func (n *node) publishAuth(a identity.Authenticator) (unlist func()) {
	var waiting, remembered func() int
	switch x := a.(type) {
	case *identity.JWT:
		waiting, remembered = func() int { return x.Stats().Waiting }, func() int { return x.Stats().Remembered }
	case *identity.Callout:
		waiting, remembered = func() int { return x.Stats().Waiting }, func() int { return x.Stats().Remembered }
	default:
		return func() {}
	}
	one := n.metrics.GaugeFunc("windrose_auth_waiting_checks", "Credentials that wait for a signature to be verified or for the answer of a callout; at most 4,096 for each entry of auth, more are refused.", func() float64 { return float64(waiting()) }, "kind", a.Name())
	two := n.metrics.GaugeFunc("windrose_auth_remembered_checks", "Decisions about tokens and by callouts that are remembered.", func() float64 { return float64(remembered()) }, "kind", a.Name())
	return func() {
		one()
		two()
	}
}

// dropAuths takes out what only the graph before had.
func (g *graph) dropAuths(next *graph) {
	for _, k := range g.auths {
		if k.unlist != nil && !slices.Contains(next.auths, k) {
			k.unlist()
		}
	}
}

func (g *graph) calloutOf(e *config.Entry, s identity.CalloutSpec) (identity.Authenticator, error) {
	return g.kept(e, func(env identity.Environment) (stagedAuth, error) { return identity.NewCallout(s, env) })
}

func (g *graph) jwtOf(e *config.Entry, s identity.JWTSpec) (identity.Authenticator, error) {
	return g.kept(e, func(env identity.Environment) (stagedAuth, error) { return identity.NewJWT(s, env) })
}

func (g *graph) x509Of(e *config.Entry, s identity.X509Spec) (identity.Authenticator, error) {
	return g.kept(e, func(env identity.Environment) (stagedAuth, error) { return identity.NewX509(s, env) })
}
