package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windrose-edc/windrose/internal/config"
)

// maxFormat bounds what is read from stdin.
const maxFormat = 4<<20 + 1

func (e *env) configFmtCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "fmt [FILE|DIR]...", Short: "Lay files out as all are, in place; - reads stdin and writes stdout",
		Long: "Changes white space only: comments, order and quotes stay. With --check nothing is written; the files that would\n" +
			"change are named and the exit code is 3.",
		Example: "  windrose config fmt windrose.yaml\n  windrose config fmt --check /etc/windrose", Args: cobra.ArbitraryArgs,
	}
	named := configFlag(c)
	check := c.Flags().Bool("check", false, "write nothing; exit code 3 when a file is laid out otherwise")
	c.RunE = e.do(func(_ *cobra.Command, args []string) error {
		names := append(*named, args...)
		if len(names) == 0 {
			return usagef("no file: name files or folders, or - for stdin")
		}
		if len(names) == 1 && names[0] == "-" {
			return e.formatStdin(*check)
		}
		files, err := yamlFiles(names)
		if err != nil {
			return err
		}
		return e.formatFiles(files, *check)
	})
	return c
}

func (e *env) formatStdin(check bool) error {
	in, err := io.ReadAll(io.LimitReader(e.in, maxFormat))
	if err != nil {
		return fmt.Errorf("read stdin: %w", err)
	}
	out, err := config.Format("stdin", in)
	switch {
	case err != nil:
		return err
	case !check:
		_, err = e.out.Write(out)
		return err
	case !bytes.Equal(in, out):
		return &codedError{exitDifference, fmt.Errorf("stdin is not laid out as windrose config fmt does")}
	}
	return nil
}

// formatFiles formats all files in memory before it writes the first.
func (e *env) formatFiles(files []string, check bool) error {
	changed := map[string][]byte{}
	var wrong config.Errors
	for _, name := range files {
		in, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		out, err := config.Format(name, in)
		if errs, ok := err.(config.Errors); ok { //nolint:errorlint // Format returns it unwrapped
			wrong = append(wrong, errs...)
			continue
		}
		if err != nil {
			return err
		}
		if !bytes.Equal(in, out) {
			changed[name] = out
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	for _, name := range files {
		out, ok := changed[name]
		if !ok {
			continue
		}
		fmt.Fprintln(e.out, name)
		if check {
			continue
		}
		st, err := os.Stat(name)
		if err != nil {
			return err
		}
		if err := config.WriteFileAtomic(name, out, st.Mode().Perm()); err != nil {
			return fmt.Errorf("write %q: %w", name, err)
		}
	}
	if check && len(changed) > 0 {
		return &codedError{code: exitDifference}
	}
	return nil
}

// yamlFiles lists files and the YAML files of folders, tests of configurations included.
func yamlFiles(names []string) (files []string, err error) {
	for _, name := range names {
		st, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if !st.IsDir() {
			files = append(files, name)
			continue
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return nil, err
		}
		for _, d := range entries {
			if !d.IsDir() && strings.HasSuffix(d.Name(), ".yaml") && !strings.HasPrefix(d.Name(), ".") {
				files = append(files, filepath.Join(name, d.Name()))
			}
		}
	}
	return files, nil
}
