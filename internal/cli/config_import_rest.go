package cli

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// mosqGlobal are the options of the whole broker, which may follow a bridge.
var mosqGlobal = map[string]bool{
	"per_listener_settings": true, "max_inflight_messages": true, "max_queued_messages": true, "max_queued_bytes": true, "max_inflight_bytes": true,
	"message_size_limit": true, "max_packet_size": true, "max_keepalive": true, "persistence": true, "persistence_file": true, "persistence_location": true,
	"persistent_client_expiration": true, "autosave_interval": true, "autosave_on_changes": true, "log_dest": true, "log_type": true, "log_facility": true,
	"log_timestamp": true, "log_timestamp_format": true, "connection_messages": true, "websockets_log_level": true, "pid_file": true, "user": true,
	"sys_interval": true, "retain_available": true, "retain_expiry_interval": true, "queue_qos0_messages": true, "upgrade_outgoing_qos": true, "set_tcp_nodelay": true, "memory_limit": true,
	"check_retain_source": true, "clientid_prefixes": true, "allow_duplicate_messages": true, "max_heap": true, "global_max_clients": true, "global_max_connections": true,
}

// What an option that has no counterpart has instead.
var mosqInstead = map[string]string{
	"log_dest":                      "the log goes to stderr; let systemd or the container keep it",
	"log_facility":                  "the log goes to stderr",
	"log_timestamp":                 "each line has its time",
	"log_timestamp_format":          "times are RFC 3339, UTC",
	"connection_messages":           "connections are logged at the level debug: log: { levels: { mqtt: debug } }",
	"pid_file":                      "not written; systemd knows the process",
	"user":                          "start the process as the user it shall be",
	"persistence_file":              "sessions and retained events are in memory in this version",
	"autosave_interval":             "sessions and retained events are in memory in this version",
	"autosave_on_changes":           "sessions and retained events are in memory in this version",
	"queue_qos0_messages":           "QoS 0 events never wait for a client that is away",
	"upgrade_outgoing_qos":          "a subscriber gets the lower QoS of both sides, as MQTT says",
	"set_tcp_nodelay":               "always on",
	"memory_limit":                  "bound it by GOMEMLIMIT and sessions.queue_bytes",
	"retain_expiry_interval":        "MQTT 5 publishers say how long an event is of use; otherwise it stays",
	"check_retain_source":           "the access list is asked again when a retained event is delivered",
	"clientid_prefixes":             "use client: in rules of acl:",
	"allow_duplicate_messages":      "a client gets an event once, whatever its subscriptions overlap",
	"max_inflight_bytes":            "use sessions.max_inflight and sessions.queue_bytes",
	"websockets_log_level":          "use log.levels",
	"http_dir":                      "files are not served",
	"plugin":                        "plugins of Mosquitto do not run here",
	"auth_plugin":                   "plugins of Mosquitto do not run here",
	"psk_file":                      "pre-shared keys over TLS are not spoken",
	"psk_hint":                      "pre-shared keys over TLS are not spoken",
	"capath":                        "name one file with all authorities in client_ca",
	"crlfile":                       "revocation lists are not read",
	"ciphers":                       "ciphers are those of Go's TLS, which are safe ones",
	"ciphers_tls1.3":                "ciphers are those of Go's TLS, which are safe ones",
	"dhparamfile":                   "not needed",
	"use_subject_as_username":       "auth: x509 takes cert.cn, cert.san.dns, cert.san.uri or cert.san.email",
	"use_username_as_clientid":      "use {user} in acl: and rewrites:",
	"bind_interface":                "bind to the interface's address",
	"allow_zero_length_clientid":    "clients without an id get one",
	"auto_id_prefix":                "clients without an id get one",
	"start_type":                    "bridges connect at the start",
	"try_private":                   "the pool does it by itself (not_private turns it off)",
	"notifications":                 "states of pools are metrics, not events",
	"notification_topic":            "states of pools are metrics, not events",
	"restart_timeout":               "use reconnect: of the pool, a range like 1s..30s",
	"round_robin":                   "members of a pool are equivalent and all used",
	"bridge_attempt_unsubscribe":    "not needed",
	"cleansession":                  "the session at the broker behind is kept as long as session_expiry of the pool says",
	"local_clientid":                "a bridge is no client here",
	"local_username":                "a bridge is no client here",
	"local_password":                "a bridge is no client here",
	"local_cleansession":            "a bridge is no client here",
	"threshold":                     "bridges do not wait for events to be enough",
	"idle_timeout":                  "bridges stay connected",
	"bridge_bind_address":           "the system chooses the address",
	"bridge_max_topic_alias":        "topic aliases are used where the broker allows them",
	"bridge_outgoing_retain":        "use drop_retain of the pool",
	"bridge_psk":                    "pre-shared keys over TLS are not spoken",
	"bridge_identity":               "pre-shared keys over TLS are not spoken",
	"bridge_capath":                 "name one file with all authorities in tls.ca of the pool",
	"bridge_tls_version":            "1.2 and 1.3 are spoken",
	"bridge_require_ocsp":           "OCSP is not asked",
	"bridge_alpn":                   "ALPN is not sent",
	"global_max_clients":            "use sessions.max",
	"global_max_connections":        "use max_connections of each listener",
	"max_heap":                      "bound it by GOMEMLIMIT",
	"socket_domain":                 "bind to an IPv4 or IPv6 address",
	"websockets_origin":             "use the origins of the listener's websocket",
	"websockets_headers_size":       "bounded",
	"tls_engine":                    "not used",
	"tls_keyform":                   "not used",
	"proxy_protocol_v2_require_tls": "not asked",
}

// convertGlobal converts what belongs to the whole node.
func (m *mosquitto) convertGlobal() {
	var node, sessions []string
	if v := m.useKey(&m.global, "persistence_location"); v != "" {
		node = append(node, "data: "+yamlWord(v))
	}
	if l, ok := m.global.get("sys_interval"); ok {
		if n, err := strconv.Atoi(l.value); err == nil && n >= 0 {
			m.used[l.place] = true
			node = append(node, fmt.Sprintf("sys_interval: %ds", n))
		}
	}
	if l, ok := m.global.get("persistence"); ok {
		m.used[l.place] = true
		if l.value == "true" {
			m.note(l.place, "persistence true: sessions and retained events are in memory in this version and do not survive a restart")
		}
	}
	number := func(key, as string, least, most int, zero string) {
		l, ok := m.global.get(key)
		if !ok {
			return
		}
		m.used[l.place] = true
		n, err := strconv.Atoi(l.value)
		switch {
		case err != nil || n < 0:
			m.note(l.place, "%s %s: not a number: %s keeps its default", key, l.value, as)
		case n == 0 && zero == "":
			m.note(l.place, "%s 0 (no bound): every queue here has a bound: %s keeps its default", key, as)
		case n == 0:
			sessions = append(sessions, as+": "+zero)
		default:
			sessions = append(sessions, fmt.Sprintf("%s: %d", as, min(max(n, least), most)))
		}
	}
	number("max_inflight_messages", "max_inflight", 1, 65535, "65535")
	number("max_queued_messages", "queue", 0, 1<<31-1, "")
	number("max_queued_bytes", "queue_bytes", 0, 1<<53, "")
	_, limit := m.global.get("message_size_limit")
	if _, packet := m.global.get("max_packet_size"); !limit && !packet {
		m.note(m.file, "no message_size_limit: packets larger than 1MiB are refused here; max_packet of a listener allows up to 256MiB")
	}
	if _, ok := m.global.get("persistent_client_expiration"); !ok {
		m.note(m.file, "no persistent_client_expiration: sessions of clients that stay away end after 7 days here; session_expiry of a listener says otherwise")
	}
	if len(node) > 0 {
		m.rest = append(m.rest, "node: { "+strings.Join(node, ", ")+" }")
	}
	m.logLevel()
	if len(sessions) > 0 {
		m.rest = append(m.rest, "sessions: { "+strings.Join(sessions, ", ")+" }")
	}
	for _, key := range []string{"per_listener_settings", "bind_address", "allow_anonymous"} {
		l, _ := m.global.get(key)
		m.used[l.place] = true
	}
}

func (m *mosquitto) logLevel() {
	for _, l := range m.global.lines {
		if l.key != "log_type" {
			continue
		}
		m.used[l.place] = true
		if (l.value == "all" || l.value == "debug") && !slices.Contains(m.rest, "log: { level: debug }") {
			m.rest = append(m.rest, "log: { level: debug }")
		}
	}
}

// leftOver notes every line that became nothing.
func (m *mosquitto) leftOver() {
	see := func(lines []mosqLine) {
		for _, l := range lines {
			if m.used[l.place] || l.place == "" {
				continue
			}
			text := strings.TrimSpace(l.key + " " + l.value)
			if strings.Contains(l.key, "password") || strings.Contains(l.key, "psk") {
				text = l.key
			}
			why := "unknown option: not converted"
			if instead, ok := mosqInstead[l.key]; ok {
				why = instead
			}
			m.note(l.place, "%s: %s", text, why)
		}
	}
	for _, b := range m.listeners {
		see(b.lines)
	}
	for _, b := range m.bridges {
		see(b.lines)
	}
	see(m.global.lines)
}

// accessList converts an acl_file for some listeners (nil: all). A list that cannot be read closes: open would be worse.
func (m *mosquitto) accessList(file, place string, listeners []string) {
	on := ""
	if len(listeners) > 0 {
		on = ", listener: [" + strings.Join(listeners, ", ") + "]"
	}
	b, err := os.ReadFile(file)
	if err != nil {
		m.note(place, "acl_file %s cannot be read: everything is denied until its rules are here", file)
		m.acl = append(m.acl, `  - { deny: [publish, subscribe], topic: "#"`+on+" }")
		return
	}
	identified := false
	for name := range m.identified {
		identified = identified || listeners == nil || slices.Contains(listeners, name)
	}
	user, n := "", 0
	var denies, allows []string
	for line := range strings.Lines(string(b)) {
		n++
		at := fmt.Sprintf("%s:%d", file, n)
		text := strings.TrimSpace(strings.ReplaceAll(line, "\t", " "))
		key, rest, _ := strings.Cut(text, " ")
		rest = strings.TrimSpace(rest)
		switch {
		case text == "" || strings.HasPrefix(text, "#"):
		case key == "user":
			user = rest
		case key == "topic" || key == "pattern":
			rule, deny := m.aclRule(at, key, rest, user, on, identified)
			if deny {
				denies = append(denies, rule)
			} else if rule != "" {
				allows = append(allows, rule)
			}
		default:
			m.note(at, "%s: not understood, not converted", text)
		}
	}
	m.acl = append(append(m.acl, denies...), allows...)
	if len(denies)+len(allows) == 0 {
		m.acl = append(m.acl, `  - { deny: [publish, subscribe], topic: "#"`+on+" }")
	}
}

// aclRule converts a line for one user, all (pattern), or who shows no name; identified: on these listeners others do.
func (m *mosquitto) aclRule(at, key, rest, user, on string, identified bool) (rule string, deny bool) {
	access, topic, ok := strings.Cut(rest, " ")
	may := map[string]string{"read": "subscribe", "write": "publish", "readwrite": "publish, subscribe", "deny": "publish, subscribe"}[access]
	if !ok || may == "" {
		access, topic, may = "readwrite", rest, "publish, subscribe"
	}
	topic = strings.TrimSpace(topic)
	if key == "pattern" {
		var levels []string
		for l := range strings.SplitSeq(topic, "/") {
			switch {
			case l == "%u":
				l = "{user}"
			case l == "%c":
				l = "{client}"
			case strings.Contains(l, "%u") || strings.Contains(l, "%c"):
				m.note(at, "pattern %s: %%u and %%c must fill a whole level here: not converted", rest)
				return "", false
			}
			levels = append(levels, l)
		}
		topic = strings.Join(levels, "/")
	} else if strings.ContainsAny(topic, "{}") {
		m.note(at, "topic %s: braces are captures here: not converted", rest)
		return "", false
	}
	who := ""
	switch {
	case key == "pattern":
	case user != "":
		who = ", user: " + yamlWord(user)
		if strings.Contains(user, "*") {
			m.note(at, "user %s: * stands for any text here: not converted", user)
			return "", false
		}
	case identified && access != "deny":
		m.note(at, "topic %s: a rule for anonymous clients alone has no counterpart: not converted, or all users would get it", rest)
		return "", false
	}
	verb := "allow"
	if access == "deny" {
		verb = "deny"
	}
	return fmt.Sprintf("  - { %s: [%s], topic: %s%s%s }", verb, may, yamlWord(topic), who, on), verb == "deny"
}

// convertBridges makes pools, routes and sources of the bridges.
func (m *mosquitto) convertBridges() {
	for _, b := range m.bridges {
		m.used[b.head.place] = true
		m.bridge(b, bridgeName(b.head.value))
	}
}

func bridgeName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '-'
	}, s)
	s = strings.TrimLeft(s, "-.")
	if s == "" {
		return "bridge"
	}
	return s[:min(len(s), 40)]
}

func (m *mosquitto) bridge(b *mosqBlock, name string) {
	var topics []mosqLine
	for _, l := range b.lines {
		if l.key == "topic" {
			topics = append(topics, l)
			m.used[l.place] = true
		}
	}
	spec := m.bridgeSpec(b, name)
	if spec == nil {
		return
	}
	pools := map[string]string{} // by the prefix that is put before topics
	pool := func(prefix string) string {
		if p, ok := pools[prefix]; ok {
			return p
		}
		p := name
		if len(pools) > 0 {
			p = fmt.Sprintf("%s-%d", name, len(pools)+1)
		}
		pools[prefix] = p
		m.pools = append(m.pools, "  "+p+":", "    mqtt:")
		for _, l := range spec {
			if id, ok := strings.CutPrefix(l, "client_id: "); ok && p != name { // two connections with one id would end each other
				l = "client_id: " + yamlWord(strings.Trim(id, `"`)+strings.TrimPrefix(p, name))
			}
			m.pools = append(m.pools, "      "+l)
		}
		if prefix != "" {
			m.pools = append(m.pools, "      topic_prefix: "+yamlWord(prefix))
		}
		return p
	}
	pool("") // the one by which sources receive
	for i, l := range topics {
		m.bridgeTopic(l, fmt.Sprintf("%s-%d", name, i+1), name, pool)
	}
	if len(topics) == 0 {
		m.note(b.head.place, "connection %s: it has no topics: no event takes it", b.head.value)
	}
}

// bridgeTopic converts: topic pattern [out|in|both] [qos] [local-prefix] [remote-prefix].
func (m *mosquitto) bridgeTopic(l mosqLine, name, source string, pool func(prefix string) string) {
	f := strings.Fields(l.value)
	for i := range f {
		if f[i] == `""` {
			f[i] = ""
		}
	}
	at := func(i int, otherwise string) string {
		if i < len(f) {
			return f[i]
		}
		return otherwise
	}
	pattern, direction, qos, local, remote := at(0, ""), at(1, "out"), at(2, "0"), at(3, ""), at(4, "")
	if !slices.Contains([]string{"out", "in", "both"}, direction) || !slices.Contains([]string{"0", "1", "2"}, qos) || pattern == "" && local+remote == "" {
		m.note(l.place, "topic %s: not understood, not converted", l.value)
		return
	}
	if direction != "in" {
		switch {
		case local == remote:
			m.routes = append(m.routes, fmt.Sprintf("  - { name: %s, topic: %s, to: %s }", name, yamlWord(local+pattern), pool("")))
		case local == "":
			m.routes = append(m.routes, fmt.Sprintf("  - { name: %s, topic: %s, to: %s }", name, yamlWord(pattern), pool(remote)))
		default:
			m.note(l.place, "topic %s: a pool can put a prefix before a topic, but not take %q off: what goes out is not converted", l.value, local)
		}
	}
	if direction == "out" {
		return
	}
	switch {
	case local == remote:
		local = ""
	case remote != "":
		m.note(l.place, "topic %s: a source can put a prefix before a topic, but not take %q off: what comes in is not converted", l.value, remote)
		return
	}
	line := fmt.Sprintf("  %s: { mqtt: { pool: %s, subscribe: [%s], qos: %s", name, source, yamlWord(remote+pattern), qos)
	if local != "" {
		line += ", topic_prefix: " + yamlWord(local)
	}
	m.sources = append(m.sources, line+" } }")
}

// bridgeSpec is the body of the pool's mqtt; nil: without an address there is none.
func (m *mosquitto) bridgeSpec(b *mosqBlock, name string) (out []string) {
	put := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	first := func(keys ...string) string {
		for _, k := range keys {
			if l, ok := b.get(k); ok {
				return m.use(l)
			}
		}
		return ""
	}
	scheme, port := "mqtt", "1883"
	ca, cert, key := first("bridge_cafile"), first("bridge_certfile"), first("bridge_keyfile")
	if ca != "" || cert != "" || b.value("bridge_capath") != "" || b.is("bridge_tls_use_os_certs") {
		scheme, port = "mqtts", "8883"
		first("bridge_tls_use_os_certs")
	}
	var urls []string
	for _, a := range strings.Fields(first("address", "addresses")) {
		host, p, err := net.SplitHostPort(a)
		if err != nil {
			host, p = strings.Trim(a, "[]"), port
		}
		urls = append(urls, yamlWord(scheme+"://"+net.JoinHostPort(host, p)))
	}
	if len(urls) == 0 {
		m.note(b.head.place, "connection %s: it has no address: not converted", b.head.value)
		return nil
	}
	put("urls: [%s]", strings.Join(urls, ", "))
	switch v := first("bridge_protocol_version"); v {
	case "mqttv50":
	case "", "mqttv311":
		put("version: \"3.1.1\"")
	default:
		put("version: \"3.1.1\"")
		l, _ := b.get("bridge_protocol_version")
		m.note(l.place, "bridge_protocol_version %s: 3.1.1 is the oldest that bridges speak", v)
	}
	if v := first("remote_clientid", "clientid"); v != "" {
		put("client_id: %s", yamlWord(v))
	}
	if v := first("remote_username", "username"); v != "" {
		put("username: %s", yamlWord(v))
	}
	if v := first("remote_password", "password"); v != "" {
		file := name + ".password"
		m.files[file] = v
		m.secrets = append(m.secrets, fmt.Sprintf("  %s: { file: %s }", name, yamlWord(file)))
		put("password: { secret: %s }", name)
		l, ok := b.get("remote_password")
		if !ok {
			l, _ = b.get("password")
		}
		m.note(l.place, "remote_password: it is not written here; put it into the file %s beside the configuration (--out does that)", file)
	}
	if v, err := strconv.Atoi(first("keepalive_interval")); err == nil && v > 0 {
		put("keepalive: %ds", v)
	}
	if scheme == "mqtts" {
		var t []string
		for _, kv := range [][2]string{{"ca", ca}, {"cert", cert}, {"key", key}} {
			if kv[1] != "" {
				t = append(t, kv[0]+": "+yamlWord(kv[1]))
			}
		}
		if first("bridge_insecure") == "true" {
			t = append(t, "insecure: true")
		}
		if len(t) > 0 {
			put("tls: { %s }", strings.Join(t, ", "))
		}
	}
	return out
}
