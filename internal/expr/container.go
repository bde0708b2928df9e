package expr

import (
	"github.com/windrose-edc/windrose/internal/event"
)

// walkStrings calls f for each entry of a map of attributes or headers until it says false. Names may come twice: the
// first counts.
func walkStrings(v val, f func(k, x string) bool) {
	if v.k == vAttrs {
		for i, m := range v.p.attrs {
			for k, x := range m {
				if i == 1 {
					if _, ok := v.p.attrs[0][k]; ok {
						continue
					}
				}
				if !f(k, x) {
					return
				}
			}
		}
		return
	}
	for m := bytesOf(v.s); ; {
		it, rest, ok := event.NextMeta(m)
		if !ok {
			return
		}
		if it.ID == event.MetaHeader && !f(view(it.Key), view(it.Value)) {
			return
		}
		m = rest
	}
}

// walk calls f for each element of a list (k is its index) or entry of a map until it says false.
func (in *Input) walk(v val, f func(k, x val) bool) {
	switch v.k {
	case vList:
		for i, x := range v.p.list {
			if !f(intVal(int64(i)), x) {
				return
			}
		}
	case vMap:
		for i, k := range v.p.keys {
			if !f(k, v.p.list[i]) {
				return
			}
		}
	case vAttrs, vHeaders:
		walkStrings(v, func(k, x string) bool { return f(stringVal(k), stringVal(x)) })
	case vJSONArray, vCBORArray, vJSONObject, vCBORObject:
		d := in.doc(v.k == vCBORArray || v.k == vCBORObject)
		i := int64(0)
		for it := d.Iter(toScan(v)); it.Next(); i++ {
			k := intVal(i)
			if v.isMap() {
				k = fromScan(it.Key)
			}
			if !f(k, fromScan(it.Value())) {
				return
			}
		}
	default:
	}
}
