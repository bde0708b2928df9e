package policy

import "testing"

// An exact rule speaks of one filter, and of nothing that it covers or meets.
func TestACLExact(t *testing.T) {
	a := fix[*ACL](t)(NewACL([]ACLSpec{
		{Deny: []string{"subscribe"}, Topic: "#", Exact: true}, {Deny: []string{"subscribe"}, Topic: "secret/x", Exact: true},
		{Allow: []string{"subscribe"}, Topic: "only/+", Exact: true}, {Deny: []string{"subscribe"}, Topic: "only/#"}, {Allow: []string{"publish", "subscribe"}, Topic: "#"},
	}, nil))
	for filter, kind := range map[string]Kind{"#": Reject, "a/#": Pass, "+": Reject, "secret/x": Reject, "secret/+": Pass, "secret/y": Pass, "only/+": Pass, "only/a": Reject, "only/#": Reject, "+/a": Reject} {
		if v := a.Subscribe(&Context{}, client("c"), []byte(filter), 0); v.Kind != kind {
			t.Errorf("%q: %v, want %v", filter, v.Kind, kind)
		}
	}
	if v := a.Apply(&Context{}, pub(client("c"), "secret/x")); v.Kind != Pass {
		t.Error("an exact rule speaks of publishing")
	}
	for _, s := range []ACLSpec{{Deny: []string{"publish", "subscribe"}, Topic: "#", Exact: true}, {Deny: []string{"subscribe"}, Topic: "{client}/a", Exact: true}} {
		if s.Validate() == nil {
			t.Errorf("%+v: no error", s)
		}
	}
}
