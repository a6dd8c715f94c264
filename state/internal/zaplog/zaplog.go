// Package zaplog leads what etcd logs, through zap, into a slog handler, so
// that a process has one log in one format.
package zaplog

import (
	"context"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Option changes what New lets through.
type Option func(*core)

// Without drops the entries whose message is exactly one of messages. etcd
// warns of some things that are so on purpose here; a warning at each start
// teaches people not to read warnings.
func Without(messages ...string) Option {
	return func(c *core) { c.dropped = append(c.dropped, messages...) }
}

// New returns a zap logger that writes every entry of at least level to
// handler, where the handler is enabled for it. An entry keeps its time and
// its caller; fields become attributes. Stack traces are left out. Panic and
// fatal entries are written as errors, and then end the goroutine or the
// process as zap promises its callers: etcd relies on not going on after them.
func New(handler slog.Handler, level zapcore.Level, opts ...Option) *zap.Logger {
	c := &core{handler: handler, level: level}
	for _, opt := range opts {
		opt(c)
	}
	return zap.New(c, zap.AddCaller())
}

// core is immutable once New has returned, so it needs no lock of its own.
type core struct {
	handler slog.Handler
	level   zapcore.Level
	dropped []string
}

func (c *core) Enabled(level zapcore.Level) bool {
	return level >= c.level && c.handler.Enabled(context.Background(), slogLevel(level))
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	with := *c
	with.handler = c.handler.WithAttrs(attrs(fields))
	return &with
}

func (c *core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(entry.Level) || slices.Contains(c.dropped, entry.Message) {
		return checked
	}
	return checked.AddCore(entry, c)
}

func (c *core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	var pc uintptr
	if entry.Caller.Defined {
		pc = entry.Caller.PC
	}
	record := slog.NewRecord(entry.Time, slogLevel(entry.Level), entry.Message, pc)
	if entry.LoggerName != "" {
		record.AddAttrs(slog.String("logger", entry.LoggerName))
	}
	record.AddAttrs(attrs(fields)...)
	return c.handler.Handle(context.Background(), record)
}

func (c *core) Sync() error { return nil }

func slogLevel(level zapcore.Level) slog.Level {
	switch {
	case level <= zapcore.DebugLevel:
		return slog.LevelDebug
	case level == zapcore.InfoLevel:
		return slog.LevelInfo
	case level == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

// attrs keeps the fields' order, for which each needs an encoder of its own:
// zap's in-memory encoder is a map.
func attrs(fields []zapcore.Field) []slog.Attr {
	out := make([]slog.Attr, 0, len(fields))
	for _, field := range fields {
		if err, ok := field.Interface.(error); ok && field.Type == zapcore.ErrorType {
			out = append(out, slog.String(field.Key, message(err)))
			continue
		}
		encoder := zapcore.NewMapObjectEncoder()
		field.AddTo(encoder)
		for key, value := range encoder.Fields {
			out = append(out, slog.Any(key, value))
		}
	}
	return out
}

// message survives an error whose Error method panics on a nil receiver, as
// zap does; a log line must not bring the server down.
func message(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = "error that cannot be printed"
		}
	}()
	return err.Error()
}
