package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	importUsers   = "users.yaml"
	maxImport     = 4 << 20
	maxImportDirs = 4 // include_dir within include_dir
)

// mosqLine is one line of a mosquitto.conf. Immutable.
type mosqLine struct {
	place string
	key   string
	value string
}

// mosqBlock is what belongs together: the options of a listener or of a bridge; lines of the same key keep their order.
type mosqBlock struct {
	head  mosqLine
	lines []mosqLine
}

func (b *mosqBlock) get(key string) (l mosqLine, ok bool) {
	for _, x := range b.lines {
		if x.key == key {
			l, ok = x, true // the last one counts
		}
	}
	return l, ok
}

func (b *mosqBlock) value(key string) string {
	l, _ := b.get(key)
	return l.value
}

func (b *mosqBlock) is(key string) bool { return b.value(key) == "true" || b.value(key) == "1" }

// mosquitto is a whole mosquitto.conf. Owned by the goroutine that converts.
type mosquitto struct {
	imported
	file       string // its name
	global     mosqBlock
	listeners  []*mosqBlock
	bridges    []*mosqBlock
	used       map[string]bool // places of lines that became something or have a note
	identified map[string]bool // listeners whose clients have names that are checked

	tls, out, auth, acl, pools, routes, sources, secrets, rest []string
}

// Options that belong to the listener before them.
var mosqListenerKeys = []string{
	"bind_interface", "max_connections", "max_topic_alias", "max_topic_alias_broker", "max_qos", "mount_point", "protocol", "socket_domain", "use_username_as_clientid",
	"http_dir", "websockets_origin", "websockets_headers_size", "cafile", "capath", "certfile", "keyfile", "require_certificate", "tls_version", "ciphers",
	"ciphers_tls1.3", "crlfile", "dhparamfile", "psk_hint", "use_identity_as_username", "use_subject_as_username", "tls_engine", "tls_keyform",
	"tls_engine_kpass_sha1", "enable_proxy_protocol", "proxy_protocol_v2_require_tls",
}

// Options that belong to the listener before them when per_listener_settings is true, else to all.
var mosqSecurityKeys = []string{"allow_anonymous", "password_file", "acl_file", "psk_file", "allow_zero_length_clientid", "auto_id_prefix", "plugin", "auth_plugin"}

// importMosquitto converts the file and what it includes.
func importMosquitto(file string) (*imported, error) {
	lines, err := readMosquitto(file, 0)
	if err != nil {
		return nil, err
	}
	m := &mosquitto{file: filepath.Base(file), used: map[string]bool{}, identified: map[string]bool{}}
	m.files = map[string]string{}
	m.sort(lines)
	m.convertListeners()
	m.convertBridges()
	m.convertGlobal()
	m.leftOver()
	m.write()
	return &m.imported, nil
}

// readMosquitto reads the lines of a file and of the folders that it includes.
func readMosquitto(file string, depth int) ([]mosqLine, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(b) > maxImport {
		return nil, fmt.Errorf("read %q: larger than %d MiB", file, maxImport>>20)
	}
	var out []mosqLine
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, maxImport+1)
	for n := 1; s.Scan(); n++ {
		text := strings.TrimSpace(s.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		key, value, _ := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
		l := mosqLine{fmt.Sprintf("%s:%d", filepath.Base(file), n), key, strings.TrimSpace(value)}
		if key != "include_dir" {
			out = append(out, l)
			continue
		}
		if depth >= maxImportDirs {
			return nil, fmt.Errorf("%s: include_dir is nested deeper than %d levels", l.place, maxImportDirs)
		}
		found, err := filepath.Glob(filepath.Join(beside(file, l.value), "*.conf"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.place, err)
		}
		slices.Sort(found)
		for _, name := range found {
			more, err := readMosquitto(name, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
	}
	return out, s.Err()
}

// beside takes a relative path from the folder of a file.
func beside(file, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// sort gives each line to the block it belongs to.
func (m *mosquitto) sort(lines []mosqLine) {
	perListener := slices.ContainsFunc(lines, func(l mosqLine) bool { return l.key == "per_listener_settings" && l.value == "true" })
	var listener, bridge, first *mosqBlock
	for _, l := range lines {
		switch {
		case l.key == "listener":
			listener, bridge = &mosqBlock{head: l}, nil
			m.listeners = append(m.listeners, listener)
		case l.key == "port":
			listener, bridge = &mosqBlock{head: l}, nil
			first = listener
			m.listeners = append(m.listeners, listener)
		case l.key == "bind_address":
			m.global.lines = append(m.global.lines, l)
		case l.key == "connection":
			bridge = &mosqBlock{head: l}
			m.bridges = append(m.bridges, bridge)
		case bridge != nil && !slices.Contains(mosqListenerKeys, l.key) && !slices.Contains(mosqSecurityKeys, l.key) && !mosqGlobal[l.key]:
			bridge.lines = append(bridge.lines, l)
		case listener != nil && (slices.Contains(mosqListenerKeys, l.key) || perListener && slices.Contains(mosqSecurityKeys, l.key)):
			listener.lines = append(listener.lines, l)
		case slices.Contains(mosqListenerKeys, l.key) && first == nil:
			first = &mosqBlock{head: mosqLine{l.place, "port", "1883"}}
			listener = first
			m.listeners = append(m.listeners, first)
			first.lines = append(first.lines, l)
		default:
			m.global.lines = append(m.global.lines, l)
		}
	}
	if len(m.listeners) == 0 { // as Mosquitto does: loopback, and everybody
		m.listeners = append(m.listeners, &mosqBlock{head: mosqLine{"", "listener", "1883 localhost"}})
		if _, said := m.global.get("allow_anonymous"); !said {
			m.global.lines = append(m.global.lines, mosqLine{"", "allow_anonymous", "true"})
		}
	}
}

// setting is an option of a listener, or of all.
func (m *mosquitto) setting(b *mosqBlock, key string) mosqLine {
	if l, ok := b.get(key); ok {
		m.used[l.place] = true
		return l
	}
	l, _ := m.global.get(key)
	m.used[l.place] = true
	return l
}

func (m *mosquitto) use(l mosqLine) string {
	m.used[l.place] = true
	return l.value
}

func (m *mosquitto) useKey(b *mosqBlock, key string) string {
	l, _ := b.get(key)
	return m.use(l)
}

func (m *mosquitto) convertListeners() {
	names := map[string]int{}
	var open []mosqLine
	type fileOf struct{ value, place string }
	acls := map[fileOf][]string{}
	var order []fileOf
	for _, b := range m.listeners {
		name, lines := m.listener(b, names)
		if name == "" {
			continue
		}
		m.out = append(m.out, lines...)
		if l := m.setting(b, "acl_file"); l.value != "" {
			f := fileOf{l.value, l.place}
			if acls[f] == nil {
				order = append(order, f)
			}
			acls[f] = append(acls[f], name)
		}
		if l := m.setting(b, "password_file"); l.value != "" {
			m.password(l)
			m.identified[name] = true
		} else if l := m.setting(b, "allow_anonymous"); l.value == "true" {
			open = append(open, l)
		}
	}
	for _, l := range open {
		if len(m.auth) > 0 {
			m.note(l.place, "allow_anonymous without a password_file: a client that shows a user name is asked for its password on every listener here")
		}
	}
	for _, f := range order {
		on := acls[f]
		if len(on) == len(names) {
			on = nil // all
		}
		m.accessList(f.value, f.place, on)
	}
	if len(order) > 0 {
		for name := range names {
			if !slices.ContainsFunc(order, func(f fileOf) bool { return slices.Contains(acls[f], name) }) {
				m.acl = append(m.acl, fmt.Sprintf("  - { allow: [publish, subscribe], topic: \"#\", listener: %s }", name))
			}
		}
	}
}

// listener converts one listener; no name: it has no counterpart.
func (m *mosquitto) listener(b *mosqBlock, names map[string]int) (name string, out []string) {
	m.used[b.head.place] = true
	port, host, _ := strings.Cut(b.head.value, " ")
	host = strings.TrimSpace(host)
	if b.head.key == "port" {
		host = m.useKey(&m.global, "bind_address")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		m.note(b.head.place, "listener %s: unix sockets and ports like this have no counterpart: not converted", b.head.value)
		return "", nil
	}
	base := "mqtt"
	cert := m.useKey(b, "certfile")
	ws := m.useKey(b, "protocol") == "websockets"
	switch {
	case ws && cert != "":
		base = "wss"
	case ws:
		base = "ws"
	case cert != "":
		base = "mqtts"
	}
	name = base
	if names[name] > 0 {
		name = base + "-" + port
	}
	for names[name] > 0 {
		name += "x"
	}
	names[name]++
	put := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	put("  %s:", name)
	put("    mqtt:")
	put("      bind: %s", yamlWord(net.JoinHostPort(host, port)))
	if cert != "" {
		put("      tls: %s", name)
		m.listenerTLS(b, name, cert)
	}
	if ws {
		put("      websocket: {}")
	}
	if m.setting(b, "allow_anonymous").value == "true" {
		put("      anonymous: true")
	}
	if n, err := strconv.Atoi(m.useKey(b, "max_connections")); err == nil && n > 0 {
		put("      max_connections: %d", n)
	}
	if b.is("enable_proxy_protocol") || m.useKey(b, "enable_proxy_protocol") != "" {
		put("      proxy_protocol: true")
		m.note(b.head.place, "enable_proxy_protocol: name the proxies in allow_from of the listener %s", name)
	}
	if size := m.packetSize(); size != "" {
		put("      max_packet: %s", size)
	}
	if s, err := strconv.Atoi(m.useKey(&m.global, "max_keepalive")); err == nil && s > 0 {
		put("      keepalive: 1s..%ds", s)
	}
	if l, ok := m.global.get("persistent_client_expiration"); ok {
		m.used[l.place] = true
		if d := mosqDuration(l.value); d != "" {
			put("      session_expiry: %s", d)
		} else {
			m.note(l.place, "persistent_client_expiration %s: not a duration that is understood: session_expiry keeps its default of 7 days", l.value)
		}
	}
	if n, err := strconv.Atoi(m.useKey(b, "max_topic_alias")); err == nil && n >= 0 {
		put("      topic_aliases: %d", n)
	}
	if n, err := strconv.Atoi(m.useKey(b, "max_topic_alias_broker")); err == nil && n >= 0 {
		put("      topic_aliases_out: %d", min(n, 64))
	}
	if n, err := strconv.Atoi(m.useKey(b, "max_qos")); err == nil && n >= 0 && n <= 2 {
		put("      max_qos: %d", n)
	}
	if m.useKey(&m.global, "retain_available") == "false" {
		put("      retain: false")
	}
	if l, ok := b.get("mount_point"); ok {
		m.used[l.place] = true
		m.note(l.place, "mount_point %s: not converted; entries of rewrites: can put a prefix before topics", l.value)
	}
	return name, out
}

// packetSize is the largest packet; message_size_limit of Mosquitto counts the payload alone.
func (m *mosquitto) packetSize() string {
	if n, err := strconv.Atoi(m.useKey(&m.global, "max_packet_size")); err == nil && n > 0 {
		return strconv.Itoa(min(max(n, 1024), 256<<20))
	}
	l, ok := m.global.get("message_size_limit")
	n, err := strconv.Atoi(m.use(l))
	switch {
	case !ok:
		return ""
	case err != nil || n < 0:
		return ""
	case n == 0:
		return "256MiB"
	}
	return strconv.Itoa(min(max(n+1024, 1024), 256<<20)) // and what is around the payload
}

// mosqDuration converts 2h, 3d, 1w, 6m (months), 1y.
func mosqDuration(s string) string {
	if s == "" {
		return ""
	}
	n, err := strconv.Atoi(s[:len(s)-1])
	if err != nil || n <= 0 {
		return ""
	}
	switch s[len(s)-1] {
	case 'h', 'd', 'w':
		return s
	case 'm':
		return fmt.Sprintf("%dd", n*30)
	case 'y':
		return fmt.Sprintf("%dd", n*365)
	}
	return ""
}

func (m *mosquitto) listenerTLS(b *mosqBlock, name, cert string) {
	put := func(format string, args ...any) { m.tls = append(m.tls, fmt.Sprintf(format, args...)) }
	put("  %s:", name)
	put("    cert: %s", yamlWord(cert))
	put("    key: %s", yamlWord(m.useKey(b, "keyfile")))
	required := m.useKey(b, "require_certificate") == "true"
	if ca := m.useKey(b, "cafile"); ca != "" && required {
		put("    client_ca: %s", yamlWord(ca))
		put("    client: require")
	} else if required {
		m.note(b.head.place, "require_certificate: without a cafile there is no authority to check against: not converted, nobody is asked for a certificate")
	}
	if l, ok := b.get("tls_version"); ok {
		m.used[l.place] = true
		switch l.value {
		case "tlsv1.3":
			put("    min_version: \"1.3\"")
		case "tlsv1.2":
			put("    min_version: \"1.2\"")
		default:
			m.note(l.place, "tls_version %s: 1.2 is the oldest that is spoken", l.value)
		}
	}
	if m.useKey(b, "use_identity_as_username") == "true" {
		m.identified[name] = true
		m.auth = append(m.auth, fmt.Sprintf("  - x509: { listener: %s, client: cert.cn }", name))
		l, _ := b.get("use_identity_as_username")
		m.note(l.place, "use_identity_as_username: the common name of the certificate is the principal and also the client id here")
	}
}

// password says how the users of a password file get here.
func (m *mosquitto) password(l mosqLine) {
	var names []string
	if b, err := os.ReadFile(l.value); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name != "" && !strings.HasPrefix(name, "#") {
				names = append(names, name)
			}
		}
	}
	if len(m.users) == 0 {
		m.auth = append(m.auth, "  - users: { file: "+importUsers+" }")
	}
	m.users = append(m.users, l.place)
	text := "password_file " + l.value + ": its hashes are of another kind and cannot be taken over: give each user a password with: windrose user add NAME --file " + importUsers
	if len(names) > 0 {
		text += " (" + strings.Join(names, ", ") + ")"
	}
	m.note(l.place, "%s", text)
}

// write puts the sections together.
func (m *mosquitto) write() {
	var b strings.Builder
	b.WriteString("windrose: v1\n")
	section := func(head string, lines []string) {
		if len(lines) > 0 {
			b.WriteString("\n" + head + "\n" + strings.Join(lines, "\n") + "\n")
		}
	}
	for _, l := range m.rest {
		b.WriteString(l + "\n")
	}
	section("secrets:", m.secrets)
	section("tls:", m.tls)
	section("listeners:", m.out)
	section("auth:", m.auth)
	section("acl:", m.acl)
	section("pools:", m.pools)
	section("routes:", m.routes)
	section("sources:", m.sources)
	m.text = b.String()
}
