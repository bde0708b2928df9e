package app

import (
	"os"
	"strings"
	"testing"
)

func TestSchemaIsSoundAndDocumented(t *testing.T) {
	if err := Schema().Check(); err != nil {
		t.Error(err)
	}
	for _, key := range Schema().Undocumented() {
		t.Errorf("%s is not documented", key)
	}
}

func TestDevDefaultsLoad(t *testing.T) {
	if _, err := schema().LoadBytes("dev", []byte(devConfig), os.LookupEnv); err != nil {
		t.Error(err)
	}
}

// What is not there yet is refused in plain words, with the place and what to do.
func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"durable", `routes: [ { name: a, topic: "x", to: p, ack: durable } ]`, "durable needs the journal"},
		{"delivered", `routes: [ { name: a, topic: "x", to: p, ack: delivered } ]`, "use upstream"},
		{"unknown pool", `routes: [ { name: a, topic: "x", to: pp } ]`, "'p'"},
		{"no weight", `routes: [ { name: a, topic: "x", to: { p: 0 } } ]`, "all 0"},
		{"unknown version", `listeners: { m: { mqtt: { bind: ":0", accept: ["4"] } } }`, "3.1.1"},
		{"unknown key", `listeners: { m: { mqtt: { bnid: ":0" } } }`, "bind"},
		{"unknown tls", `listeners: { m: { mqtt: { bind: ":0", tls: no } } }`, "tls"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := "windrose: v1\npools: { p: { webhook: { urls: [\"http://127.0.0.1:1/\"] } } }\n" + tt.text + "\n"
			_, err := schema().LoadBytes("test.yaml", []byte(text), os.LookupEnv)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "test.yaml:3:") {
				t.Errorf("%v\nwant line 3 and %q", err, tt.want)
			}
		})
	}
}
