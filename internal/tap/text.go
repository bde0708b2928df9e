package tap

import (
	"fmt"
	"strconv"
	"strings"
)

// Line is the record on one line: when, who, what, and what became of it.
func (r *Record) Line() string {
	var b strings.Builder
	if !r.DryRun {
		b.WriteString(r.Time.Local().Format("15:04:05.000") + "  ")
	}
	b.WriteString(r.head())
	b.WriteString("  " + r.result())
	if ts := r.targets(); ts != "" {
		b.WriteString("  " + ts)
	}
	if us := r.Took(); us > 0 {
		b.WriteString("  " + took(us))
	}
	if r.Left > 0 {
		fmt.Fprintf(&b, "  (%d steps more)", r.Left)
	}
	return b.String()
}

func (r *Record) head() string {
	who := r.Client
	if who == "" {
		who = "-"
	}
	s := fmt.Sprintf("%s %s  %s  qos %d  %d B", or(r.Protocol, "-"), clean(who), clean(r.Topic), r.QoS, r.Size)
	if r.Retain {
		s += "  retained"
	}
	return s
}

// result is the outcome in a word, or what is open.
func (r *Record) result() string {
	switch {
	case r.Outcome != "" && r.Complete:
		return r.Outcome
	case r.Outcome != "":
		return r.Outcome + " (a target is still open)"
	case r.Held > 0:
		return "held"
	}
	return "open"
}

// Took is when the last step was, in microseconds.
func (r *Record) Took() float64 {
	if n := len(r.Steps); n > 0 {
		return r.Steps[n-1].Micros
	}
	return 0
}

// targets names every target with its last word.
func (r *Record) targets() string {
	type end struct{ name, verdict string }
	var ends []end
	for _, s := range r.Steps {
		if s.Step != StepTarget {
			continue
		}
		name := s.Kind + " " + clean(s.Name)
		found := false
		for i := range ends {
			if ends[i].name == name && s.Kind == KindPool {
				ends[i].verdict, found = s.Verdict, true
			}
		}
		if !found {
			ends = append(ends, end{name, s.Verdict})
		}
	}
	var out []string
	for i, e := range ends {
		if i == 4 && len(ends) > 5 {
			out = append(out, fmt.Sprintf("and %d more", len(ends)-i))
			break
		}
		out = append(out, e.name+": "+e.verdict)
	}
	return strings.Join(out, ", ")
}

func took(us float64) string {
	switch {
	case us >= 1e6:
		return strconv.FormatFloat(us/1e6, 'f', 2, 64) + " s"
	case us >= 1e3:
		return strconv.FormatFloat(us/1e3, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(us, 'f', 1, 64) + " us"
}

// Path is the record in full: a line for each step.
func (r *Record) Path() string {
	var b strings.Builder
	if !r.DryRun {
		b.WriteString(r.Time.Local().Format("15:04:05.000") + "  ")
	}
	fmt.Fprintf(&b, "%s", r.head())
	if r.User != "" {
		b.WriteString("  user " + clean(r.User))
	}
	if r.Listener != "" {
		b.WriteString("  listener " + clean(r.Listener))
	}
	b.WriteByte('\n')
	r.content(&b)
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "  %10s  %-9s %s", took(s.Micros), s.Step, s.words())
		if s.Loop > 0 {
			fmt.Fprintf(&b, "  [loop %d]", s.Loop)
		}
		b.WriteByte('\n')
	}
	if r.Left > 0 {
		fmt.Fprintf(&b, "  %10s  %d steps more\n", "", r.Left)
	}
	if !r.Complete {
		fmt.Fprintf(&b, "  %10s  still open: the rest was not known when this was written\n", "")
	}
	return b.String()
}

func (r *Record) content(b *strings.Builder) {
	cut := ""
	if r.Truncated {
		cut = " ..."
	}
	switch {
	case r.Withheld != "":
		fmt.Fprintf(b, "  payload not shown: %s\n", r.Withheld)
	case r.Payload != nil:
		fmt.Fprintf(b, "  payload %s%s\n", strconv.Quote(*r.Payload), cut)
	case r.PayloadBase64 != nil:
		fmt.Fprintf(b, "  payload %x%s\n", r.PayloadBase64, cut)
	}
	if r.ContentType != "" {
		fmt.Fprintf(b, "  content type %s\n", clean(r.ContentType))
	}
	for _, h := range r.Headers {
		fmt.Fprintf(b, "  header %s: %s\n", clean(h.Name), clean(h.Value))
	}
}

// words is a step as a phrase.
func (s *Step) words() string {
	var w []string
	add := func(text string) {
		if text != "" {
			w = append(w, text)
		}
	}
	add(s.Kind)
	add(clean(s.Name))
	if s.Member != "" {
		add("member " + clean(s.Member))
	}
	if s.Attempt > 0 {
		add("attempt " + strconv.Itoa(s.Attempt))
	}
	text := strings.Join(w, " ")
	w = w[:0]
	add(s.Verdict)
	if s.Outcome != "" && s.Outcome != s.Verdict {
		add(s.Outcome)
	}
	if len(w) > 0 {
		if text != "" {
			text += ": "
		}
		text += strings.Join(w, ", ")
	}
	if s.Topic != "" {
		text += ", topic is now " + clean(s.Topic)
	}
	if s.Detail != "" {
		if text != "" {
			text += " "
		}
		text += "(" + clean(s.Detail) + ")"
	}
	return text
}

// clean makes text of peers harmless for a terminal.
func clean(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			q := strconv.Quote(s)
			return q[1 : len(q)-1]
		}
	}
	return s
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}
