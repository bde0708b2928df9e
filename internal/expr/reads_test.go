package expr

import "testing"

func TestInside(t *testing.T) {
	for src, want := range map[string]bool{
		`true`:                                              false,
		`event.topic.startsWith("site/")`:                   false,
		`event.size > 10 && client.id == "json"`:            false,
		`event.payload == b"x"`:                             true,
		`client.id == "a" || event.text.startsWith("s")`:    true,
		`event.json.password == "x"`:                        true,
		`has(event.json.a.b)`:                               true,
		`event.cbor[1] == 2`:                                true,
		`[1, 2].exists(i, event.json.list[i] == 3)`:         true,
		`"x-id" in event.headers`:                           true,
		`[event.headers["a"]].size() == 1`:                  true,
		`{"k": event.text}["k"] == "v"`:                     true,
		`(event.qos > 0 ? event.correlation : b"") == b"x"`: true,
		`size(event.text) == 1 && event.qos == 1`:           true,
	} {
		p, err := CompileEvent(src, Options{})
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		if got := p.Inside(); got != want {
			t.Errorf("Inside of %s: %v, want %v", src, got, want)
		}
	}
	for _, v := range inside {
		if !reserved(v) {
			t.Errorf("there is no variable %s", v)
		}
	}
}
