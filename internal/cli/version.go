package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker for a release: -ldflags "-X github.com/windrose-edc/windrose/internal/cli.version=v1.2.3".
var version string

// versionInfo is the document of windrose version.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`     // of the revision
	Modified bool   `json:"modified,omitempty"` // built from a tree with changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// readVersion puts together what the linker and the build information say.
func readVersion(linked string, bi *debug.BuildInfo) versionInfo {
	v := versionInfo{Version: linked, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if bi == nil {
		bi = &debug.BuildInfo{}
	}
	for _, s := range bi.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	if v.Version != "" {
		return v
	}
	if v.Version = bi.Main.Version; v.Version == "" || v.Version == "(devel)" {
		v.Version = "devel"
		if v.Revision != "" {
			v.Version += "-" + v.Revision[:min(12, len(v.Revision))]
		}
		if v.Modified {
			v.Version += "+dirty"
		}
	}
	return v
}

func currentVersion() versionInfo {
	bi, _ := debug.ReadBuildInfo()
	return readVersion(version, bi)
}

func (e *env) versionCommand() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print which build this is", Example: "  windrose version -o json", Args: e.args(cobra.NoArgs, "no arguments")}
	o := outputFlag(c)
	c.RunE = e.do(func(*cobra.Command, []string) error {
		v := currentVersion()
		return o.print(e.out, v, func() table {
			text := fmt.Sprintf("windrose %s", v.Version)
			if v.Revision != "" {
				text += fmt.Sprintf(" (%s %s)", v.Revision[:min(12, len(v.Revision))], v.Time)
			}
			return table{rows: [][]string{{text + " " + v.Go + " " + v.Platform}}, names: []string{v.Version}}
		})
	})
	return c
}
