package need

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// MQTTjs returns the program node and the folder of modules that has MQTT.js in it. It comes from another registry than
// the other peers, which may be out of reach: where it is missing the test is skipped, loudly, and never fails for that.
func MQTTjs(t testing.TB) (node, modules string) {
	t.Helper()
	const how = "SKIPPED, the machine lacks MQTT.js (npm install -g mqtt, or NODE_PATH names a folder that has it)"
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip(how)
	}
	modules = os.Getenv("NODE_PATH")
	if modules == "" {
		out, err := exec.Command("npm", "root", "-g").Output()
		if err != nil {
			t.Skip(how)
		}
		modules = strings.TrimSpace(string(out))
	}
	cmd := exec.Command(node, "-e", "require('mqtt')")
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	if err := cmd.Run(); err != nil {
		t.Skip(how)
	}
	return node, modules
}
