package webhook

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/windrose-edc/windrose/internal/event"
	"github.com/windrose-edc/windrose/internal/pool"
)

// meaning is one row of the table status -> outcome.
type meaning struct {
	outcome event.Outcome
	retry   bool
	after   bool // Retry-After is obeyed
}

// statuses is the table HTTP -> outcome for the statuses that have a row of their own; the classes follow in meaningOf.
var statuses = map[int]meaning{
	http.StatusUnauthorized:                {outcome: event.Unauthorized},
	http.StatusForbidden:                   {outcome: event.Unauthorized},
	http.StatusProxyAuthRequired:           {outcome: event.Unauthorized},
	http.StatusNotFound:                    {outcome: event.BadTopic},
	http.StatusMethodNotAllowed:            {outcome: event.BadTopic},
	http.StatusGone:                        {outcome: event.BadTopic},
	http.StatusRequestTimeout:              {outcome: event.Timeout, retry: true},
	http.StatusTooEarly:                    {outcome: event.Unavailable, retry: true},
	http.StatusTooManyRequests:             {outcome: event.Throttled, retry: true, after: true},
	http.StatusRequestEntityTooLarge:       {outcome: event.TooLarge},
	http.StatusRequestURITooLong:           {outcome: event.TooLarge},
	http.StatusRequestHeaderFieldsTooLarge: {outcome: event.TooLarge},
	http.StatusServiceUnavailable:          {outcome: event.Unavailable, retry: true, after: true},
	http.StatusGatewayTimeout:              {outcome: event.Timeout, retry: true},
}

// meaningOf is what a final status says about an event.
func meaningOf(status int) meaning {
	if m, ok := statuses[status]; ok {
		return m
	}
	switch status / 100 {
	case 2:
		return meaning{outcome: event.Accepted}
	case 3:
		return meaning{outcome: event.BadTopic} // it is not taken here, and elsewhere nobody configured
	case 4:
		return meaning{outcome: event.BadPayload}
	}
	return meaning{outcome: event.Unavailable, retry: true}
}

// ofStatus is the result of a request that was answered.
func ofStatus(status int, retryAfter string, now time.Time) pool.Result {
	m := meaningOf(status)
	r := pool.Result{Outcome: m.outcome, Retry: m.retry}
	if m.after {
		r.After = pause(retryAfter, now)
	}
	if !m.outcome.OK() {
		r.Err = fmt.Errorf("status %d", status)
	}
	return r
}

// pause reads Retry-After: seconds or a date (RFC 9110, section 10.2.3); 0 where there is none that can be read.
func pause(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// codes is the table outcome -> HTTP (docs: one event, every protocol), for who answers a request with an outcome.
var codes = [event.NumOutcomes]int{
	event.Accepted:      http.StatusAccepted,
	event.NoMatch:       http.StatusAccepted,
	event.Unauthorized:  http.StatusForbidden,
	event.BadTopic:      http.StatusNotFound,
	event.BadPayload:    http.StatusUnprocessableEntity,
	event.TooLarge:      http.StatusRequestEntityTooLarge,
	event.Throttled:     http.StatusTooManyRequests,
	event.Released:      http.StatusServiceUnavailable,
	event.Modified:      http.StatusServiceUnavailable,
	event.Unavailable:   http.StatusServiceUnavailable,
	event.Timeout:       http.StatusGatewayTimeout,
	event.Indeterminate: http.StatusGatewayTimeout,
	event.Internal:      http.StatusInternalServerError,
}

// StatusOf is the status that tells an outcome.
func StatusOf(o event.Outcome) int {
	if o < event.NumOutcomes {
		return codes[o]
	}
	return http.StatusInternalServerError
}
