package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// heading is what a column of a unit is called, and what its values are shown in:
// p99-ns is p99, and its values are durations.
func heading(unit string) string {
	if name, ok := strings.CutSuffix(unit, "-ns"); ok {
		return name
	}
	return unit
}

// show is a value for people, to three digits or so.
func show(unit string, v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case unit == "ns" || unit == "ns/op" || strings.HasSuffix(unit, "-ns"):
		return showDuration(time.Duration(v))
	}
	return number(v)
}

// number is a number with three digits at the least, and thousands apart.
func number(v float64) string {
	a := math.Abs(v)
	switch {
	case v == math.Trunc(v) && a < 1e15, a >= 100:
		return thousands(v)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func thousands(v float64) string {
	digits := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	var b strings.Builder
	if v < 0 {
		b.WriteByte('-')
	}
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// showDuration is a duration to three digits.
func showDuration(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "µs"}} {
		if d >= u.of {
			return fmt.Sprintf("%.*f%s", decimals(float64(d)/float64(u.of)), float64(d)/float64(u.of), u.name)
		}
	}
	return strconv.FormatInt(int64(d), 10) + "ns"
}

// decimals leaves a value three digits.
func decimals(v float64) int {
	switch {
	case v >= 100:
		return 0
	case v >= 10:
		return 1
	}
	return 2
}
