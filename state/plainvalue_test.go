package state

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// plainValues are attachments as they are written, and what stands near them.
func plainValues() []attachmentValue {
	since := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	const uid = "5d9c68c6-c50e-4d3d-a2d2-000000000001"
	return []attachmentValue{
		{Mode: Exclusive, Since: since},
		{Mode: Shared, Since: since.Truncate(time.Second), NodeUID: uid},
		{Mode: Exclusive, Since: since, NodeUID: uid, Epoch: 65535, Token: NewToken(65535, maxTokenRevision)},
	}
}

// What is written is decoded without encoding/json: a form that only nearly fits
// would cost a start its time, and nothing else would tell.
func TestPlainAttachment_TakesWhatIsWritten(t *testing.T) {
	for _, want := range plainValues() {
		var got attachmentValue
		if text := encode(want); !plainAttachment([]byte(text), &got) || got != want {
			t.Errorf("%s is taken for %+v, want %+v", text, got, want)
		}
	}
}

// A value that is too long for a record is none, whatever its form.
func TestPlainAttachment_Bounded(t *testing.T) {
	var v attachmentValue
	if plainAttachment([]byte(encode(attachmentValue{Mode: Exclusive, NodeUID: strings.Repeat("u", maxRecordBytes)})), &v) {
		t.Error("it is taken")
	}
}

// Whatever it takes means the same to encoding/json.
func FuzzPlainAttachment(f *testing.F) {
	for _, v := range plainValues() {
		f.Add([]byte(encode(v)))
	}
	for _, v := range []string{
		`{}`, `null`, `{"mode":"exclusive"}`, `{"mode":"exclusive","epoch":00,"since":"2026-01-02T03:04:05Z"}`, `{"mode":"exclusive","epoch":65536,"since":"2026-01-02T03:04:05Z"}`,
		`{"mode":"exclusive","nodeUID":"","epoch":0,"since":"2026-01-02T03:04:05.000000006+02:00","token":0}`, `{"mode":"shared","nodeUID":"\u0041","epoch":1,"since":"2026-01-02T03:04:05Z"}`,
		`{"mode":"shared","nodeUID":"ü","epoch":1,"since":"2026-01-02T03:04:05Z"}`, `{"mode":"shared","epoch":1,"since":"yesterday"}`, `{"mode":"shared","epoch":1,"since":"2026-01-02T03:04:05Z"} `,
		`{"mode":"shared","epoch":1,"since":"2026-01-02T03:04:05Z","more":1}`, `{"mode":"shared","epoch":1,"since":"2026-01-02T03:04:05Z","token":18446744073709551616}`, `{"mode":"shared","epoch":1,"since":"`,
		`{"mode":"shared","epoch":,"since":"2026-01-02T03:04:05Z"}`, `{"mode":"shared","epoch":1,"since":"2026-01-02T03:04:05Z","token":1,"token":2}`,
	} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		var plain, want attachmentValue
		if !plainAttachment(value, &plain) {
			if plain != want {
				t.Fatalf("%q is not taken, and leaves %+v", value, plain)
			}
			return
		}
		if err := json.Unmarshal(value, &want); err != nil {
			t.Fatalf("%q is taken for %+v; encoding/json says %v", value, plain, err)
		}
		// Time zones are by pointer.
		same := plain.Since.Equal(want.Since) && plain.Since.Format(time.RFC3339Nano) == want.Since.Format(time.RFC3339Nano)
		plain.Since, want.Since = time.Time{}, time.Time{}
		if !same || plain != want {
			t.Fatalf("%q is taken for %+v; encoding/json says %+v", value, plain, want)
		}
	})
}

func BenchmarkPlainAttachment(b *testing.B) {
	value := []byte(encode(plainValues()[1]))
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var v attachmentValue
			if !plainAttachment(value, &v) {
				b.Fatal("not taken")
			}
		}
	})
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var v attachmentValue
			if err := json.Unmarshal(value, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
