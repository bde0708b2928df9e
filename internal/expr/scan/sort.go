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
	if a.num != b.num {
		if a.num {
			return 1
		}
		return -1
	}
	return strings.Compare(d.b[a.off:a.end], d.b[b.off:b.end])
}

func (d *Doc) sort(names []member) {
	slices.SortFunc(names, d.compare)
}

// find looks a name of the root object up; only for a root object whose names are kept.
func (d *Doc) find(key string, num bool) (val int, ok bool) {
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
			if m.num == num && d.b[m.off:m.end] == key {
				return int(m.val), true
			}
		} else if d.top > linear {
			break
		}
	}
	return 0, false
}
