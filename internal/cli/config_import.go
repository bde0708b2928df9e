package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/config"
	"github.com/windrose-edc/windrose/internal/identity"
)

// imported is what a foreign configuration became. Owned by the goroutine that converts.
type imported struct {
	text  string            // the configuration
	notes []importNote      // what did not become anything, or not quite the same
	users []string          // names that need a password here
	files map[string]string // secrets by the name of their file
}

// importNote is a line of the foreign configuration that needs a person.
type importNote struct {
	place string // file:line
	text  string
}

func (im *imported) note(place, format string, args ...any) {
	im.notes = append(im.notes, importNote{place, fmt.Sprintf(format, args...)})
}

func (e *env) configImportCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "import mosquitto.conf", Short: "Convert a configuration of Mosquitto, and say what has no counterpart",
		Long: "Converts listeners, TLS, users, access lists, bridges and limits. What has no counterpart, or not quite the same one, is\n" +
			"said on stderr and in comments, line by line. Without --out the result goes to stdout; with it passwords of bridges and\n" +
			"an empty users file are written beside it (mode 0600), so that windrose config check has everything it asks for.",
		Example: "  windrose config import /etc/mosquitto/mosquitto.conf --out windrose.yaml",
		Args:    e.args(cobra.ExactArgs(1), "one file"),
	}
	out := c.Flags().String("out", "", "write the configuration there, and what it needs beside it; nothing is overwritten")
	c.RunE = e.do(func(_ *cobra.Command, args []string) error {
		im, err := importMosquitto(args[0])
		if err != nil {
			return err
		}
		text, err := config.Format(args[0], []byte(im.document(args[0])))
		if err != nil {
			return err
		}
		for _, n := range im.notes {
			fmt.Fprintf(e.err, "%s: %s\n", n.place, n.text)
		}
		if *out == "" {
			_, err = e.out.Write(text)
			return err
		}
		return im.write(*out, text)
	})
	return c
}

// document is the configuration with its notes in front.
func (im *imported) document(from string) string {
	var b strings.Builder
	b.WriteString("# Converted from " + filepath.Base(from) + " by windrose config import.\n")
	if len(im.notes) > 0 {
		b.WriteString("# What has no counterpart here, or not quite the same one:\n")
		for _, n := range im.notes {
			fmt.Fprintf(&b, "#   %s: %s\n", n.place, oneLine(n.text))
		}
	}
	return b.String() + im.text
}

// write puts the configuration and what it needs into files that are not there yet.
func (im *imported) write(out string, text []byte) error {
	dir := filepath.Dir(out)
	if err := writeNew(out, text, 0o640); err != nil {
		return err
	}
	for name, secret := range im.files {
		if err := writeNew(filepath.Join(dir, name), []byte(secret+"\n"), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if len(im.users) == 0 {
		return nil
	}
	users := filepath.Join(dir, importUsers)
	if _, err := os.Stat(users); err == nil {
		return nil
	}
	return identity.NewUsers(users).Save()
}

func writeNew(name string, data []byte, mode os.FileMode) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// yamlWord quotes a text where a plain one would be something else.
func yamlWord(s string) string {
	plain := s != "" && !strings.ContainsAny(s[:1], "0123456789-+.~") && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-./", r)
	}) < 0
	if plain && !slices.Contains([]string{"true", "false", "null", "True", "False", "Null", "TRUE", "FALSE", "NULL"}, s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}
