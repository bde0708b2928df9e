package config

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// checkFormat checks a text against its unit. It returns the text in its normal form, or what is wrong (an error whose
// text follows "got ...: ", nil when the unit says it all) in bad, with a fix.
func checkFormat(unit, s string, enum []string) (normal, bad, fix string) {
	switch unit {
	case unitFilter:
		bad, fix = checkFilter(s)
	case unitTopic:
		if strings.ContainsAny(s, "+#") {
			return s, "a topic has no wildcards", "write the topic in full"
		}
		bad = checkTopicText(s)
	case unitCIDR:
		return checkCIDR(s)
	case unitAddr:
		bad, fix = checkAddr(s)
	case unitFile:
		if s == "" || strings.ContainsRune(s, 0) {
			bad = "the path is empty"
		}
	case unitURL:
		bad, fix = checkURL(s, enum)
	case unitExpr:
		if strings.TrimSpace(s) == "" {
			bad = "the expression is empty"
		}
	}
	return s, bad, fix
}

func checkTopicText(s string) (bad string) {
	switch {
	case s == "":
		return "it is empty"
	case len(s) > 65535:
		return "it is longer than 65,535 bytes"
	case strings.ContainsRune(s, 0):
		return "it holds a zero character"
	}
	return ""
}

var captureName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_-]*)*$`)

// checkFilter checks an MQTT topic filter (MQTT 5, section 4.7.1) whose levels may be {captures}.
func checkFilter(s string) (bad, fix string) {
	if bad = checkTopicText(s); bad != "" {
		return bad, fix
	}
	levels := strings.Split(s, "/")
	var seen []string
	for i, lv := range levels {
		switch {
		case lv == "+" || lv == "#" && i == len(levels)-1:
		case lv == "#":
			return "# must be the last level", "end the filter there, or use + for one level"
		case strings.ContainsAny(lv, "+#"):
			return "+ and # must fill a whole level", "write " + strings.Join(replaceLevel(levels, i, "+"), "/")
		case strings.ContainsAny(lv, "{}"):
			name, ok := strings.CutPrefix(lv, "{")
			name, closed := strings.CutSuffix(name, "}")
			switch {
			case !ok || !closed || !captureName.MatchString(name):
				return "a {capture} must fill a whole level and hold a name", "write {name} between two slashes"
			case slices.Contains(seen, name):
				return "the capture {" + name + "} is there twice", "use two names"
			}
			seen = append(seen, name)
		}
	}
	return "", ""
}

func replaceLevel(levels []string, i int, with string) []string {
	out := slices.Clone(levels)
	out[i] = with
	return out
}

func checkCIDR(s string) (normal, bad, fix string) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			return s, "the length is missing", "write " + netip.PrefixFrom(a, a.BitLen()).String()
		}
		return s, "it is not a network", "write an address and a length, like 10.0.0.0/8 or 2001:db8::/32"
	}
	if m := p.Masked(); m != p {
		return s, "bits are set beyond the length", "write " + m.String()
	}
	return p.String(), "", ""
}

func checkAddr(s string) (bad, fix string) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if path == "" {
			return "the path is missing", "write unix:/run/windrose.sock"
		}
		return "", ""
	}
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return "the colon is missing", `write ":` + strconv.FormatUint(n, 10) + `"`
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if _, e := netip.ParseAddr(s); e == nil {
			return "the port is missing", "write " + net.JoinHostPort(s, "1883")
		}
		if !strings.Contains(s, ":") && s != "" {
			return "the port is missing", "write " + s + ":1883"
		}
		return "it is not host:port", `write host:port, ":port" or "[::1]:port"`
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "the port is not a number from 0 to 65535", ""
	}
	if strings.ContainsAny(host, " /@") {
		return "the host is not a name or an address", ""
	}
	return "", ""
}

func checkURL(s string, schemes []string) (bad, fix string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme == "":
		return "it is not a URL", "write scheme://host/path"
	case len(schemes) > 0 && !slices.Contains(schemes, u.Scheme):
		return "the scheme is not one of " + strings.Join(schemes, ", "), suggestScheme(u.Scheme, schemes)
	case u.Host == "" && u.Scheme != "unix":
		return "the host is missing", "write " + u.Scheme + "://host/path"
	}
	if u.User != nil {
		if _, has := u.User.Password(); has {
			return "it holds a password", "take it out of the URL and give it as { secret: NAME }"
		}
	}
	return "", ""
}

func suggestScheme(s string, schemes []string) string {
	if c := nearest(s, schemes); c != "" {
		return "did you mean '" + c + "'?"
	}
	return ""
}

// resolveFile takes a relative path from the directory of the file that names it.
func resolveFile(path, file string) string {
	if filepath.IsAbs(path) || file == "" {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}
