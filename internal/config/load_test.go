package config

import (
	"os"
	"testing"
	"time"
)

func mustLoad(t *testing.T, file string) *Snapshot {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := fleetSchema().LoadBytes(file, b, fleetEnv)
	if err != nil {
		t.Fatalf("load %s:\n%v", file, err)
	}
	return s
}

func entry(t *testing.T, s *Snapshot, section, name string) Entry {
	t.Helper()
	for _, e := range s.Entries(section) {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("no entry %s.%s", section, name)
	return Entry{}
}

func spec[T any](t *testing.T, s *Snapshot, section, name string) *T {
	t.Helper()
	v, ok := entry(t, s, section, name).Spec.(*T)
	if !ok {
		t.Fatalf("%s.%s: spec is %T", section, name, entry(t, s, section, name).Spec)
	}
	return v
}

func TestFleetIsDecoded(t *testing.T) {
	s := mustLoad(t, "testdata/fleet.yaml")
	m := spec[mqttListener](t, s, "listeners", "mqtt-tls")
	if m.Bind != ":8883" || m.TLS != "fleet" || m.MaxPacket != 256<<10 || m.KeepAlive != (keepAlive{20 * time.Second, 20 * time.Minute}) ||
		len(m.Accept) != 2 || !m.NoDelay || m.Backlog != 1024 || m.Load != 0.9 {
		t.Errorf("mqtt-tls: %+v", m)
	}
	lb := entry(t, s, "listeners", "mqtt-lb")
	if c, ok := lb.Common.(*listenerCommon); !ok || c.Proxy == nil || c.Proxy.Pool != "brokers" {
		t.Errorf("mqtt-lb: common %+v", lb.Common)
	}
	if k := spec[kafkaPool](t, s, "pools", "kafka"); k.Password != "value of /run/secrets/kafka" {
		t.Errorf("password: %q", k.Password)
	}
	if a := spec[amqpPool](t, s, "pools", "alarms"); a.URL.Reveal() != "amqps://user:pass@broker" {
		t.Errorf("url: %v", a.URL)
	}
	l, ok := s.Single("limits").(*limitsSpec)
	if !ok || l.PerIP.Connects != 20 || l.PerClient.Bytes != 256<<10 || l.Node.OnExcess != "reject" || l.PerIP.OnExcess != "delay" {
		t.Errorf("limits: %+v", l)
	}
	n, ok := s.Single("node").(*nodeSpec)
	if !ok || n.Name != "edc-1" || n.Drain.Grace != 20*time.Second || n.Drain.Rate != 500 {
		t.Errorf("node: %+v", n)
	}
	r := spec[routeSpec](t, s, "routes", "rest")
	if len(r.To.Names) != 2 || r.To.Weights[0] != 95 || r.Surge != "default" {
		t.Errorf("rest: %+v", r)
	}
	var order []string
	for _, e := range s.Entries("auth") {
		order = append(order, e.Name+"/"+e.Kind)
	}
	if len(order) != 3 || order[0] != "1/x509" || order[2] != "3/anonymous" {
		t.Errorf("auth: %v", order)
	}
}
