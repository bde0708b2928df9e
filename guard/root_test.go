package guard

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// osRoot is the root of the repository. Tests run in their package's folder.
func osRoot(t *testing.T) fs.FS {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return os.DirFS(root)
}
