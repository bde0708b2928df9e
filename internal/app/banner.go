package app

import (
	"fmt"
	"net"
	"strings"
)

// banner says what listens where and what to try.
func (a *App) banner() {
	w := a.o.Stdout
	if w == nil {
		return
	}
	n := a.node.live.Load()
	fmt.Fprintf(w, "Windrose %s, node %s\n\n", a.o.Version, n.id)
	for _, l := range n.listeners {
		fmt.Fprintf(w, "  %-10s %s", l.protocol, l.Addr())
		if l.packets != nil {
			fmt.Fprint(w, "  UDP")
		}
		if l.spec.TLS != "" {
			fmt.Fprint(w, "  TLS")
		}
		if l.anonymous {
			fmt.Fprint(w, "  anonymous clients are admitted")
			if !loopbackOnly(l.Addr().String()) {
				fmt.Fprint(w, " FROM ANYWHERE")
			}
		}
		fmt.Fprintln(w)
	}
	if a.admin != nil && a.admin.Addr() != "" {
		fmt.Fprintf(w, "  %-10s %s  health, metrics, first page\n", "admin", a.adminURL())
	}
	fmt.Fprintf(w, "  %-10s %s\n", "data", n.boot.Data)
	if a.o.Dev {
		fmt.Fprint(w, "\nDevelopment mode: loopback only, anyone on this machine may connect, nothing survives a restart.\n")
	}
	if try := a.try(); len(try) > 0 {
		fmt.Fprintf(w, "\nTry:\n  %s\n", strings.Join(try, "\n  "))
	}
	fmt.Fprintln(w)
}

func (a *App) adminURL() string {
	if a.node.boot.AdminSpec.TLS != "" {
		return "https://" + a.admin.Addr()
	}
	return "http://" + a.admin.Addr()
}

// try are three commands for the first listener that admits anybody.
func (a *App) try() []string {
	for _, l := range a.node.live.Load().listeners {
		if !l.anonymous || l.spec.TLS != "" || l.protocol != "mqtt" {
			continue
		}
		host, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			continue
		}
		t := []string{
			fmt.Sprintf("mosquitto_sub -h %s -p %s -t 'site/#' -v", host, port),
			fmt.Sprintf("mosquitto_pub -h %s -p %s -t site/a -m hello -q 1", host, port),
		}
		if a.admin != nil && a.admin.Addr() != "" {
			t = append(t, "curl "+a.adminURL()+"/readyz?verbose")
		}
		return t
	}
	return nil
}
