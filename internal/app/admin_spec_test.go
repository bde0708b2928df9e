package app

import (
	"os"
	"path/filepath"
	"testing"
)

// none is no socket wherever the file of the configuration stands: paths are taken from its folder.
func TestAdminSocketNone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "windrose.yaml")
	for value, want := range map[string]string{"none": "", "": filepath.Join(dir, "kept", "admin.sock"), "a.sock": filepath.Join(dir, "a.sock")} {
		line := ""
		if value != "" {
			line = ", admin_socket: " + value
		}
		if err := os.WriteFile(file, []byte("windrose: v1\nnode: { data: kept"+line+" }\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := nodeSpec(s).SocketFile(); got != want {
			t.Errorf("admin_socket %q: %q, want %q", value, got, want)
		}
	}
}
