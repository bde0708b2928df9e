package scan

import (
	"cmp"
	"slices"
	"strings"
)

// compare orders members by hash, then by kind and bytes, so that equal names are neighbours however many names an
// attacker makes agree in their hash.
func (d *Doc) compare(a, b member) int {
	if c := cmp.Compare(a.hash, b.hash); c != 0 {
		return c
	}
	if c := cmp.Compare(a.end&integer, b.end&integer); c != 0 {
		return c
	}
	return strings.Compare(a.name(d.b), b.name(d.b))
}

func (d *Doc) sort(names []member) {
	slices.SortFunc(names, d.compare)
}

// find looks a name of the root object up, no integer name; only for a root object whose names are kept.
func (d *Doc) find(key string) (val int, ok bool) {
	h := hashName(key)
	names := d.names[:d.top]
	if len(names) > linear {
		i, found := slices.BinarySearchFunc(names, h, func(m member, h uint32) int { return cmp.Compare(m.hash, h) })
		if !found {
			return 0, false
		}
		names = names[i:]
	}
	for i := range names {
		m := &names[i]
		if m.hash == h {
			if m.end&integer == 0 && m.name(d.b) == key {
				return int(m.val), true
			}
		} else if d.top > linear {
			break
		}
	}
	return 0, false
}
