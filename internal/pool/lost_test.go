package pool

import (
	"errors"
	"testing"
)

type tellingLink struct {
	fakeLink
	err error
}

func (l *tellingLink) Err() error { return l.err }

func TestWhyALinkEnded(t *testing.T) {
	taken := errors.New("server disconnected: session taken over")
	for want, l := range map[string]Link{
		"link ended": &fakeLink{},
		"link ended: server disconnected: session taken over": &tellingLink{err: taken},
	} {
		if got := whyLost(l); got.Error() != want || !errors.Is(got, errLost) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := whyLost(&tellingLink{}); got.Error() != "link ended" {
		t.Errorf("%q of a link that does not know", got)
	}
}
