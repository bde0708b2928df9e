package admin

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// The bounds of a page.
const (
	MaxPage     = 1000
	defaultPage = 100
	// pageTime is how long one request may look for rows that a condition accepts; then its page is short, and its
	// cursor goes on behind what was looked at.
	pageTime = 30 * time.Millisecond
)

// Errors of a Node that the API tells.
var (
	ErrNotFound = errors.New("not found")
	ErrCursor   = errors.New("not a cursor of this list")
)

// Page is a part of a list. There is more while Next is not empty, also when Items is short: looking for rows ends
// after a while.
type Page[T any] struct {
	Items []T    `json:"items" nullable:"false" doc:"The rows."`
	Next  string `json:"next,omitempty" doc:"Cursor of the following page; there is none behind the last."`
	Total *int   `json:"total,omitempty" doc:"How many there are in all, where that is known and no condition was given."`
}

// PageInput is the parameters of every list. Embed it.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Rows of a page, at most."`
	Cursor string `query:"cursor" maxLength:"131072" doc:"Where to go on: next of the page before."`
	Where  string `query:"where" maxLength:"4096" doc:"Condition in CEL over the fields of a row, like queued > 0 && listener == 'mqtt'. It is evaluated on the node."`
}

// step looks at some rows of a list, from the place from on ("" is the beginning), calls yield with them until it
// returns false, and returns the place behind the last row given; "" is the end. It is quick; a list is read by many.
type step[T any] func(ctx context.Context, from string, yield func(*T) bool) (next string, err error)

// readPage reads rows until the page is full, the list ends or the time for it is over.
func readPage[T any](ctx context.Context, list string, in *PageInput, read step[T]) (*answer[Page[T]], error) {
	from, err := openCursor(list, in.Cursor)
	if err != nil {
		return nil, badCursor(err)
	}
	accepts, err := compileWhere[T](in.Where)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("the condition cannot be read", &huma.ErrorDetail{Message: err.Error(), Location: "query.where", Value: in.Where})
	}
	limit := in.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	out := &answer[Page[T]]{}
	out.Body.Items = make([]T, 0, min(limit, defaultPage))
	var failed error
	for start := time.Now(); ; {
		next, err := read(ctx, from, func(row *T) bool {
			ok, err := accepts(row)
			if err != nil {
				failed = err
				return false
			}
			if ok {
				out.Body.Items = append(out.Body.Items, *row)
			}
			return len(out.Body.Items) < limit
		})
		switch {
		case failed != nil:
			return nil, huma.Error422UnprocessableEntity("the condition cannot be evaluated", &huma.ErrorDetail{Message: failed.Error(), Location: "query.where", Value: in.Where})
		case errors.Is(err, ErrCursor):
			return nil, badCursor(err)
		case err != nil:
			return nil, huma.Error503ServiceUnavailable("the node did not answer in time: " + err.Error())
		}
		from = next
		if from == "" || len(out.Body.Items) >= limit || time.Since(start) > pageTime {
			break
		}
	}
	if from != "" {
		out.Body.Next = sealCursor(list, from)
	}
	return out, nil
}

func badCursor(err error) error {
	return huma.Error422UnprocessableEntity("begin again without a cursor", &huma.ErrorDetail{Message: err.Error(), Location: "query.cursor"})
}

// sealCursor makes of a place what a client gets: a text without meaning, of one list.
func sealCursor(list, place string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(list + "\x00" + place))
}

func openCursor(list, cursor string) (place string, err error) {
	if cursor == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return "", ErrCursor
	}
	of, place, ok := strings.Cut(string(b), "\x00")
	if !ok || of != list || place == "" {
		return "", ErrCursor
	}
	return place, nil
}

// steps reads a list that is in memory as a whole; the place is the number of the next row.
func steps[T any](rows []T) step[T] {
	return func(_ context.Context, from string, yield func(*T) bool) (string, error) {
		i := 0
		if from != "" {
			var err error
			if i, err = strconv.Atoi(from); err != nil || i < 0 {
				return "", ErrCursor
			}
		}
		for ; i < len(rows); i++ {
			if !yield(&rows[i]) {
				i++
				break
			}
		}
		if i >= len(rows) {
			return "", nil
		}
		return strconv.Itoa(i), nil
	}
}
