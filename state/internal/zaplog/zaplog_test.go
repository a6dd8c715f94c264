package zaplog_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/holdfast-storage/holdfast/state/internal/zaplog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logged returns the lines that do makes, without their time.
func logged(t *testing.T, from slog.Level, level zapcore.Level, do func(*zap.Logger), opts ...zaplog.Option) []string {
	t.Helper()
	var out bytes.Buffer
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{
		Level: from,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
	do(zaplog.New(handler, level, opts...))
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

func TestNew_Levels(t *testing.T) {
	all := func(l *zap.Logger) {
		l.Debug("d")
		l.Info("i")
		l.Warn("w")
		l.Error("e")
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a panic entry does not panic")
				}
			}()
			l.Panic("p")
		}()
	}
	for _, test := range []struct {
		name  string
		from  slog.Level
		level zapcore.Level
		want  []string
	}{
		{"all", slog.LevelDebug, zapcore.DebugLevel, []string{"level=DEBUG msg=d", "level=INFO msg=i", "level=WARN msg=w", "level=ERROR msg=e", "level=ERROR msg=p"}},
		{"by the logger's level", slog.LevelDebug, zapcore.WarnLevel, []string{"level=WARN msg=w", "level=ERROR msg=e", "level=ERROR msg=p"}},
		{"by the handler's level", slog.LevelError, zapcore.DebugLevel, []string{"level=ERROR msg=e", "level=ERROR msg=p"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, logged(t, test.from, test.level, all)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNew_Fields(t *testing.T) {
	var missing *nilError
	got := logged(t, slog.LevelInfo, zapcore.InfoLevel, func(l *zap.Logger) {
		l.Named("raft").With(zap.Int("first", 1)).Info("m",
			zap.String("s", "a b"), zap.Duration("took", time.Second), zap.Strings("many", []string{"x", "y"}),
			zap.Error(errors.New("broken")), zap.NamedError("gone", missing), zap.Skip())
	})
	want := []string{`level=INFO msg=m first=1 logger=raft s="a b" took=1s many="[x y]" error=broken gone="error that cannot be printed"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

func TestNew_TimeAndCallerAreTheEntrys(t *testing.T) {
	var out bytes.Buffer
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{AddSource: true})
	zaplog.New(handler, zapcore.InfoLevel).Info("m")
	if !strings.Contains(out.String(), "zaplog_test.go") {
		t.Errorf("the source is not the caller's: %s", &out)
	}
	if strings.Contains(out.String(), "time=0001") {
		t.Errorf("no time: %s", &out)
	}
}

func TestWithout(t *testing.T) {
	got := logged(t, slog.LevelInfo, zapcore.InfoLevel, func(l *zap.Logger) {
		l.Warn("known")
		l.With(zap.Int("a", 1)).Warn("known")
		l.Warn("known, and more")
	}, zaplog.Without("known"))
	if diff := cmp.Diff([]string{`level=WARN msg="known, and more"`}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
