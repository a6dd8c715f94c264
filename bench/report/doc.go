// Package report shows a bench.Result: as a table for people, in Go's benchmark
// format for benchstat, as JSON, and as one HTML page with plots. It also
// compares results.
package report
