package app

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/windrose-edc/windrose/internal/observe"
)

// panel is one chart of the dashboard: queries of PromQL and how their lines are called. What it means is the help of its
// first metric.
type panel struct {
	title   string
	unit    string // Grafana's word
	queries [][2]string
}

type row struct {
	title  string
	panels []panel
}

// nodes narrows a metric to the chosen nodes.
const nodes = `{job=~"$job",instance=~"$instance"}`

func rateOf(metric, by string) string {
	return "sum by (" + by + ") (rate(" + metric + nodes + "[$__rate_interval]))"
}

func gaugeOf(metric, by string) string { return "sum by (" + by + ") (" + metric + nodes + ")" }

func rows() []row {
	return []row{
		{"Events", []panel{
			{"Events received", "cps", [][2]string{{rateOf("windrose_session_received_events_total", "qos"), "QoS {{qos}}"}}},
			{"Events delivered to subscribers", "cps", [][2]string{{rateOf("windrose_session_delivered_events_total", "instance"), "{{instance}}"}}},
			{"Answers to publishers", "cps", [][2]string{{rateOf("windrose_session_answered_events_total", "outcome"), "{{outcome}}"}}},
			{"Dropped deliveries", "cps", [][2]string{{rateOf("windrose_session_dropped_events_total", "reason"), "{{reason}}"}}},
			{"Events that nobody took, or too late", "cps", [][2]string{
				{rateOf("windrose_route_unmatched_events_total", "instance"), "nobody {{instance}}"},
				{rateOf("windrose_route_overdue_events_total", "instance"), "overdue {{instance}}"}}},
			{"Events without an outcome yet", "short", [][2]string{{gaugeOf("windrose_route_open_events", "instance"), "{{instance}}"}}},
		}},
		{"Clients", []panel{
			{"Connections", "short", [][2]string{{gaugeOf("windrose_loop_open_connections", "instance"), "{{instance}}"}}},
			{"Sessions", "short", [][2]string{{gaugeOf("windrose_session_open_sessions", "instance"), "all {{instance}}"}, {gaugeOf("windrose_session_online_sessions", "instance"), "connected {{instance}}"}}},
			{"Connections that ended", "cps", [][2]string{{rateOf("windrose_mqtt_ended_connections_total", "reason"), "{{reason}}"}}},
			{"Connections refused", "cps", [][2]string{{rateOf("windrose_loop_refused_connections_total", "reason"), "{{reason}}"}}},
			{"TLS handshakes", "cps", [][2]string{{rateOf("windrose_loop_tls_handshakes_total", "outcome"), "{{outcome}}"}}},
			{"Waiting in sessions", "short", [][2]string{{gaugeOf("windrose_session_queued_events", "instance"), "{{instance}}"}}},
		}},
		{"Policies", []panel{
			{"Verdicts", "cps", [][2]string{{rateOf("windrose_policy_verdict_events_total", "policy, kind"), "{{policy}} {{kind}}"}}},
			{"Subscriptions refused", "cps", [][2]string{{rateOf("windrose_policy_refused_subscriptions_total", "policy"), "{{policy}}"}}},
		}},
		{"Pools", []panel{
			{"Delivered", "cps", [][2]string{{rateOf("windrose_pool_delivered_events_total", "pool"), "{{pool}}"}}},
			{"Members up", "short", [][2]string{{gaugeOf("windrose_pool_up_members", "pool"), "{{pool}}"}}},
			{"Queue", "short", [][2]string{{gaugeOf("windrose_pool_queued_events", "pool"), "{{pool}}"}}},
			{"Queue, bytes", "bytes", [][2]string{{gaugeOf("windrose_pool_queued_bytes", "pool"), "{{pool}}"}}},
			{"Refused", "cps", [][2]string{{rateOf("windrose_pool_refused_events_total", "pool, reason"), "{{pool}} {{reason}}"}}},
			{"Attempts repeated", "cps", [][2]string{{rateOf("windrose_pool_retried_attempts_total", "pool"), "{{pool}}"}}},
			{"Dead letters", "short", [][2]string{{gaugeOf("windrose_pool_dead_letters", "pool"), "{{pool}}"}}},
		}},
		{"Node", []panel{
			{"CPU", "percentunit", [][2]string{{rateOf("windrose_process_cpu_seconds_total", "instance"), "{{instance}}"}}},
			{"Memory", "bytes", [][2]string{{gaugeOf("windrose_process_resident_memory_bytes", "instance"), "resident {{instance}}"}, {gaugeOf("windrose_go_heap_bytes", "instance"), "heap {{instance}}"}}},
			{"Network", "Bps", [][2]string{{rateOf("windrose_loop_transferred_bytes_total", "direction"), "{{direction}}"}}},
			{"Open files", "short", [][2]string{{gaugeOf("windrose_process_open_fds", "instance"), "{{instance}}"}}},
			{"Log lines lost or held back", "cps", [][2]string{
				{rateOf("windrose_log_dropped_lines_total", "instance"), "lost {{instance}}"}, {rateOf("windrose_log_suppressed_lines_total", "instance"), "held back {{instance}}"}}},
			{"Certificate expires in", "s", [][2]string{{"min by (instance) (windrose_tls_expiry_seconds" + nodes + ")", "{{instance}}"}}},
			{"Configuration is broken", "short", [][2]string{{gaugeOf("windrose_config_broken_state", "instance"), "{{instance}}"}}},
		}},
	}
}

// dashboard is the JSON of Grafana.
func dashboard(t *testing.T, fs []observe.Family) []byte {
	t.Helper()
	type obj = map[string]any
	source := obj{"type": "prometheus", "uid": "${datasource}"}
	help := map[string]string{}
	for _, f := range fs {
		help[f.Name] = f.Help
	}
	var panels []obj
	id, y := 0, 0
	for _, r := range rows() {
		id++
		panels = append(panels, obj{"id": id, "type": "row", "title": r.title, "collapsed": false, "gridPos": obj{"x": 0, "y": y, "w": 24, "h": 1}})
		y++
		for i, p := range r.panels {
			id++
			var targets []obj
			for j, q := range p.queries {
				targets = append(targets, obj{"refId": string(rune('A' + j)), "expr": q[0], "legendFormat": q[1], "datasource": source})
			}
			panels = append(panels, obj{
				"id": id, "type": "timeseries", "title": p.title, "description": help[metricName.FindString(p.queries[0][0])], "datasource": source,
				"gridPos": obj{"x": i % 3 * 8, "y": y + i/3*8, "w": 8, "h": 8}, "targets": targets,
				"fieldConfig": obj{"defaults": obj{"unit": p.unit, "min": 0}, "overrides": []obj{}},
				"options":     obj{"legend": obj{"displayMode": "list", "placement": "bottom", "showLegend": true}, "tooltip": obj{"mode": "multi", "sort": "desc"}},
			})
		}
		y += (len(r.panels) + 2) / 3 * 8
	}
	choice := func(name, query string) obj {
		return obj{"name": name, "type": "query", "datasource": source, "query": obj{"query": query, "refId": name}, "definition": query,
			"refresh": 2, "multi": true, "includeAll": true, "current": obj{"text": "All", "value": "$__all"}}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(obj{
		"uid": "windrose", "title": "Windrose", "tags": []string{"windrose"}, "schemaVersion": 39, "version": 1, "editable": true, "refresh": "30s", "timezone": "browser",
		"time": obj{"from": "now-1h", "to": "now"}, "panels": panels,
		"templating": obj{"list": []obj{
			{"name": "datasource", "type": "datasource", "query": "prometheus"},
			choice("job", "label_values(windrose_node_build_info, job)"),
			choice("instance", `label_values(windrose_node_build_info{job=~"$job"}, instance)`),
		}},
	}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// alert is one rule of Prometheus.
type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alertRules(t *testing.T) []byte {
	t.Helper()
	rule := func(name, severity, hold, expr, summary, description string) alert {
		return alert{"Windrose" + name, expr, hold, map[string]string{"severity": severity}, map[string]string{"summary": summary, "description": description}}
	}
	rules := []alert{
		rule("ConfigBroken", "warning", "5m", "windrose_config_broken_state > 0", "The last reload failed on {{ $labels.instance }}",
			"The configuration before it is still in force. windrose config check says what is wrong with the files."),
		rule("PoolDown", "critical", "2m", "windrose_pool_up_members == 0", "Pool {{ $labels.pool }} has no member on {{ $labels.instance }}",
			"Events wait in its queue, and are refused when it is full. windrose get pools shows why the members are down."),
		rule("PoolQueueGrows", "warning", "15m", "windrose_pool_queued_events > 1000 and deriv(windrose_pool_queued_events[15m]) > 0", "The queue of pool {{ $labels.pool }} grows on {{ $labels.instance }}",
			"Its members take less than arrives: {{ $value }} events wait."),
		rule("DeadLetters", "warning", "5m", "increase(windrose_pool_parked_letters_total[10m]) > 0", "Events of pool {{ $labels.pool }} became dead letters on {{ $labels.instance }}",
			"Reason: {{ $labels.reason }}. windrose get deadletters lists them; they can be delivered again."),
		rule("EventsDropped", "warning", "10m", "sum by (instance, reason) (rate(windrose_session_dropped_events_total[10m])) > 1", "Deliveries to subscribers are dropped on {{ $labels.instance }}",
			"Reason: {{ $labels.reason }}. A subscriber is slower than what it asked for."),
		rule("EventsOverdue", "warning", "5m", "rate(windrose_route_overdue_events_total[5m]) > 0", "Publishers wait in vain on {{ $labels.instance }}",
			"Events had no outcome at their deadline (node.deadline): a target does not answer."),
		rule("PolicyFails", "warning", "5m", "rate(windrose_policy_failed_events_total[5m]) > 0", "Policy {{ $labels.policy }} fails on {{ $labels.instance }}",
			"It could not judge events; they were refused unless it says on_error: pass."),
		rule("LoopPanics", "critical", "1m", "increase(windrose_loop_handler_errors_total[10m]) > 0", "Connections end by a fault of Windrose on {{ $labels.instance }}",
			"The log has the stack; please report it."),
		rule("HandshakesFail", "warning", "15m", `sum by (instance) (rate(windrose_loop_tls_handshakes_total{outcome!="ok"}[5m])) > 0.5 * sum by (instance) (rate(windrose_loop_tls_handshakes_total[5m])) and sum by (instance) (rate(windrose_loop_tls_handshakes_total[5m])) > 1`,
			"Most TLS handshakes fail on {{ $labels.instance }}", "Clients do not trust the certificate, or show none that is trusted."),
		rule("CertificateExpires", "warning", "1h", "windrose_tls_expiry_seconds < 14 * 86400", "A certificate of {{ $labels.instance }} expires in {{ $value | humanizeDuration }}",
			"Put the new one in its place and send SIGHUP: connections stay."),
		rule("FilesRunOut", "critical", "5m", "windrose_process_open_fds > 0.9 * windrose_process_max_fds and windrose_process_max_fds > 0", "File descriptors run out on {{ $labels.instance }}",
			"New connections will be refused: raise LimitNOFILE."),
		rule("LogLinesLost", "warning", "5m", "rate(windrose_log_dropped_lines_total[5m]) > 0", "Log lines are lost on {{ $labels.instance }}",
			"Whoever reads stderr is too slow."),
	}
	doc := map[string]any{"groups": []map[string]any{{"name": "windrose", "rules": rules}}}
	var b bytes.Buffer
	b.WriteString("# Alerts for Prometheus, generated: go generate ./internal/app.\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n") + "\n")
}
