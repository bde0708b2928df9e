package config

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkLoad reads a large fleet: 10,000 rules, 2,000 routes, 200 pools.
func BenchmarkLoad(b *testing.B) {
	var doc strings.Builder
	doc.WriteString("windrose: v1\npools:\n")
	for i := range 200 {
		fmt.Fprintf(&doc, "  p%d: { webhook: { urls: [https://a%d.example/in], timeout: 2s }, health: 5s }\n", i, i)
	}
	doc.WriteString("acl:\n")
	for i := range 10000 {
		fmt.Fprintf(&doc, "  - { allow: [publish], topic: \"site/%d/{client}/#\", when: 'device.class == \"c%d\"' }\n", i, i)
	}
	doc.WriteString("routes:\n")
	for i := range 2000 {
		fmt.Fprintf(&doc, "  - { name: r%d, topic: \"site/%d/#\", to: { p%d: 95, p%d: 5 }, ack: upstream }\n", i, i, i%200, (i+1)%200)
	}
	schema := fleetSchema()
	b.SetBytes(int64(doc.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := schema.LoadBytes("x", []byte(doc.String()), nil); err != nil {
			b.Fatal(err)
		}
	}
}
