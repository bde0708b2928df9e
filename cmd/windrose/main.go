// Command windrose is the event delivery controller and everything that operates it; see windrose --help.
package main

import (
	"os"

	"github.com/windrose-edc/windrose/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
