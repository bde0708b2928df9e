package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

var errUnit = errors.New("not in this unit")

// hint is an error that carries what to write instead.
type hint struct{ fix string }

func (h *hint) Error() string { return h.fix }

// unitScale is one suffix of a unit and its factor.
type unitScale struct {
	suffix string
	factor float64
}

func durationScales() []unitScale {
	return []unitScale{
		{"ns", 1}, {"us", 1e3}, {"µs", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"d", 24 * 3600e9}, {"w", 7 * 24 * 3600e9},
	}
}

// splitNumber splits the leading decimal number off s.
func splitNumber(s string) (num, rest string) {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.') {
		i++
	}
	return s[:i], s[i:]
}

// parseDuration reads 30s, 1h30m, 1.5h, 30d, 2w, and 0. Days have 24 hours.
func parseDuration(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	rest, neg := strings.CutPrefix(s, "-")
	if rest == "" {
		return 0, errUnit
	}
	total := 0.0
	exact := int64(0)
	for rest != "" {
		num, tail := splitNumber(rest)
		suffix := tail
		for i, r := range tail {
			if r >= '0' && r <= '9' || r == '.' {
				suffix = tail[:i]
				break
			}
		}
		v, err := strconv.ParseFloat(num, 64)
		if err != nil {
			return 0, errUnit
		}
		factor := 0.0
		for _, u := range durationScales() {
			if u.suffix == suffix {
				factor = u.factor
			}
		}
		if factor == 0 {
			if suffix == "" && total == 0 {
				return 0, &hint{"write " + s + "s for seconds, or another of ns us ms s m h d w"}
			}
			return 0, errUnit
		}
		total += v * factor
		if total > 100*365*24*3600e9 {
			return 0, &hint{"a duration is at most 100 years"}
		}
		if n, err := strconv.ParseInt(num, 10, 64); err == nil {
			exact += n * int64(factor)
		} else {
			exact += int64(math.Round(v * factor))
		}
		rest = tail[len(suffix):]
	}
	if neg {
		exact = -exact
	}
	return time.Duration(exact), nil
}

// formatDuration writes what parseDuration reads, in the largest units that are whole.
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	for _, u := range []struct {
		suffix string
		factor time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}, {"us", time.Microsecond}} {
		if d%u.factor == 0 {
			return sign + strconv.FormatInt(int64(d/u.factor), 10) + u.suffix
		}
	}
	if s := d.String(); !strings.Contains(s, "µ") {
		return sign + s
	}
	return sign + strconv.FormatInt(int64(d), 10) + "ns"
}

func sizeScales() []unitScale {
	return []unitScale{
		{"B", 1}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	}
}

// parseSize reads bytes: 4096, 64KiB, 1.5GiB, 10MB.
func parseSize(s string) (int64, error) {
	num, suffix := splitNumber(s)
	v, err := strconv.ParseFloat(num, 64)
	if err != nil {
		return 0, errUnit
	}
	if suffix == "" {
		n, err := strconv.ParseInt(num, 10, 64)
		if err != nil {
			return 0, errUnit
		}
		return n, nil
	}
	suffix = strings.TrimPrefix(suffix, " ")
	for _, u := range sizeScales() {
		if u.suffix != suffix {
			continue
		}
		total := v * u.factor
		switch {
		case total > math.MaxInt64/2:
			return 0, &hint{"a size is below 4 EiB"}
		case total != math.Trunc(total):
			return 0, &hint{"give a whole number of bytes"}
		}
		return int64(total), nil
	}
	switch strings.ToLower(suffix) {
	case "k", "m", "g", "t":
		up := strings.ToUpper(suffix)
		ten := strings.Replace(up, "K", "k", 1)
		return 0, &hint{fmt.Sprintf("write %s%siB (powers of 1024) or %s%sB (powers of 1000)", num, up, num, ten)}
	case "b", "kb", "kib", "mb", "mib", "gb", "gib", "tb", "tib":
		for _, u := range sizeScales() {
			if strings.EqualFold(u.suffix, suffix) {
				return 0, &hint{"write " + num + u.suffix}
			}
		}
	}
	return 0, errUnit
}

// formatSize writes what parseSize reads.
func formatSize(n int64) string {
	if n == 0 {
		return "0"
	}
	for _, u := range []struct {
		suffix string
		factor int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"MB", 1e6}, {"kB", 1e3}} {
		if n%u.factor == 0 {
			return strconv.FormatInt(n/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// perScale returns the seconds of a rate's denominator.
func perScale(s string) float64 {
	switch s {
	case "s", "sec", "second":
		return 1
	case "m", "min", "minute":
		return 60
	case "h", "hour":
		return 3600
	case "d", "day":
		return 86400
	}
	return 0
}

// parseRate reads 50/s, 10/m, 2.5/h, 0; with bytes, 256KiB/s. The result is per second.
func parseRate(s string, bytes bool) (float64, error) {
	if s == "0" {
		return 0, nil
	}
	num, per, found := strings.Cut(s, "/")
	amount := 0.0
	if bytes {
		n, err := parseSize(num)
		if err != nil {
			return 0, err
		}
		amount = float64(n)
	} else {
		digits, rest := splitNumber(num)
		v, err := strconv.ParseFloat(digits, 64)
		if err != nil || rest != "" || math.IsInf(v, 0) {
			return 0, errUnit
		}
		amount = v
	}
	if !found {
		return 0, &hint{"write " + num + "/s, or /m, /h, /d"}
	}
	secs := perScale(per)
	if secs == 0 {
		return 0, &hint{"write " + num + "/s, or /m, /h, /d"}
	}
	return amount / secs, nil
}

// formatRate writes what parseRate reads as the same number.
func formatRate(r float64, bytes bool) string {
	if r == 0 {
		return "0"
	}
	for _, per := range []struct {
		name string
		secs float64
	}{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}} {
		n := math.Round(r * per.secs)
		if n < 1 || n > 1<<53 || n/per.secs != r {
			continue
		}
		if bytes {
			return formatSize(int64(n)) + "/" + per.name
		}
		return strconv.FormatInt(int64(n), 10) + "/" + per.name
	}
	return strconv.FormatFloat(r, 'f', -1, 64) + "/s"
}
