package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"
)

// Bounds of JSON that comes with a credential or from who decides about it.
const (
	maxClaimDepth = 8
	maxClaims     = 512 // values in all
)

var errClaims = errors.New("not a JSON object within the bounds, or a name is there twice")

// parseObject reads a JSON object strictly: a name that is there twice, which readers take differently, is an error, and so is
// what follows the object. Numbers become int64 or float64.
func parseObject(b []byte) (map[string]any, error) {
	if !utf8.Valid(b) {
		return nil, errClaims
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	r := claimsReader{d: d}
	t, err := d.Token()
	if err != nil || t != json.Delim('{') {
		return nil, errClaims
	}
	m, err := r.object(1)
	if err != nil {
		return nil, errClaims
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errClaims
	}
	return m, nil
}

// claimsReader is one reading. Owned by who reads.
type claimsReader struct {
	d *json.Decoder
	n int // values so far
}

func (r *claimsReader) object(depth int) (map[string]any, error) {
	m := make(map[string]any)
	for r.d.More() {
		t, err := r.d.Token()
		if err != nil {
			return nil, errClaims
		}
		name, ok := t.(string)
		if !ok {
			return nil, errClaims
		}
		if _, twice := m[name]; twice {
			return nil, errClaims
		}
		if m[name], err = r.value(depth); err != nil {
			return nil, err
		}
	}
	if _, err := r.d.Token(); err != nil {
		return nil, errClaims
	}
	return m, nil
}

func (r *claimsReader) value(depth int) (any, error) {
	if r.n++; r.n > maxClaims {
		return nil, errClaims
	}
	t, err := r.d.Token()
	if err != nil {
		return nil, errClaims
	}
	switch x := t.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(x.String(), 10, 64); err == nil {
			return n, nil
		}
		f, err := x.Float64()
		if err != nil {
			return nil, errClaims
		}
		return f, nil
	case json.Delim:
		if depth >= maxClaimDepth {
			return nil, errClaims
		}
		if x == '{' {
			return r.object(depth + 1)
		}
		list := []any{}
		for r.d.More() {
			v, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		if _, err := r.d.Token(); err != nil {
			return nil, errClaims
		}
		return list, nil
	}
	return t, nil
}
