package eval

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

type reply struct {
	Text string
	N    int
}

func TestLogResumes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.jsonl")
	l := mustOpen(t, path)
	want := map[string]reply{}
	for i := range 20 {
		k, v := Key("model", i, 0.7), reply{fmt.Sprintf("a <b> & \x00 “c” %d", i), i}
		if ok, err := l.Get(k, new(reply)); ok || err != nil {
			t.Fatalf("before it was appended: %v, %v", ok, err)
		}
		if err := l.Append(k, v); err != nil {
			t.Fatal(err)
		}
		want[k] = v
	}
	k := Key("model", 3, 0.7)
	want[k] = reply{"again", 33}
	if err := l.Append(k, want[k]); err != nil {
		t.Fatal(err)
	}
	check := func(l *Log) {
		t.Helper()
		if l.Len() != len(want) {
			t.Errorf("%d keys, want %d", l.Len(), len(want))
		}
		for k, v := range want {
			var got reply
			if ok, err := l.Get(k, &got); !ok || err != nil || got != v {
				t.Errorf("%s: %v %v %v, want %v", k, got, ok, err, v)
			}
		}
		n := 0
		for _, err := range l.All() {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 21 {
			t.Errorf("%d entries, want 21", n)
		}
	}
	check(l)
	l.Close()
	l = mustOpen(t, path)
	check(l)
	l.Close()
}

// TestLogTorn cuts a log at every byte: what was complete is there, the rest
// is gone, and the log goes on.
func TestLogTorn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log.jsonl")
	l := mustOpen(t, path)
	for i := range 3 {
		if err := l.Append(fmt.Sprint("key", i), reply{"text", i}); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		for _, tail := range []string{"", "\x00\x00\x00"} {
			cut := filepath.Join(dir, "cut.jsonl")
			if err := os.WriteFile(cut, append(whole[:n:n], tail...), 0o666); err != nil {
				t.Fatal(err)
			}
			l, err := OpenLog(cut)
			if err != nil {
				t.Fatalf("cut at %d: %v", n, err)
			}
			complete := strings.Count(string(whole[:n]), "\n")
			if l.Len() != complete {
				t.Fatalf("cut at %d: %d entries, want %d", n, l.Len(), complete)
			}
			if err := l.Append("new", reply{"new", 9}); err != nil {
				t.Fatal(err)
			}
			l.Close()
			l = mustOpen(t, cut)
			var got reply
			if ok, err := l.Get("new", &got); !ok || err != nil || got.N != 9 || l.Len() != complete+1 || l.Dropped() != 0 {
				t.Fatalf("cut at %d: after it: %v %v %v, %d entries", n, got, ok, err, l.Len())
			}
			l.Close()
		}
	}
}

func TestLogIsLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.jsonl")
	l := mustOpen(t, path)
	if _, err := OpenLog(path); !errors.Is(err, ErrLocked) {
		t.Errorf("a second one: %v, want ErrLocked", err)
	}
	l.Close()
	mustOpen(t, path).Close()
}

func TestLogRefusesOtherFiles(t *testing.T) {
	for _, text := range []string{
		"hello", "[\n]\n", "{\"key\":\"a\"}\n", "{\"key\":\"\",\"value\":1}\n", "{\"a\":1}\n",
		"{\"key\":\"a\",\"value\":1}\nnot json\n{\"key\":\"b\",\"value\":1}\n",
	} {
		path := filepath.Join(t.TempDir(), "log.jsonl")
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenLog(path); !errors.Is(err, ErrLog) {
			t.Errorf("%q: %v, want ErrLog", text, err)
		}
		if b, _ := os.ReadFile(path); string(b) != text {
			t.Errorf("%q was changed to %q", text, b)
		}
	}
}

func TestLogConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.jsonl")
	l := mustOpen(t, path)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 25 {
				k := Key(g, i)
				if err := l.Append(k, reply{strings.Repeat("x", i*100), g}); err != nil {
					t.Error(err)
				}
				var got reply
				if ok, err := l.Get(k, &got); !ok || err != nil || got.N != g || len(got.Text) != i*100 {
					t.Errorf("%d %d: %v %v", g, i, ok, err)
				}
			}
		})
	}
	wg.Wait()
	l.Close()
	l = mustOpen(t, path)
	defer l.Close()
	if l.Len() != 200 {
		t.Errorf("%d entries, want 200", l.Len())
	}
}

func TestKey(t *testing.T) {
	seen := map[string]bool{}
	for _, parts := range [][]any{{}, {""}, {"a", "b"}, {"ab"}, {"a", []string{"b"}}, {0.7}, {"0.7"}, {map[string]int{"a": 1, "b": 2}}} {
		k := Key(parts...)
		if seen[k] || len(k) != 64 {
			t.Errorf("%v: %s is not new", parts, k)
		}
		seen[k] = true
	}
	if got, want := Key(map[string]int{"b": 2, "a": 1}), Key(map[string]int{"a": 1, "b": 2}); got != want {
		t.Error("a map's order changes the key")
	}
}

func FuzzOpenLog(f *testing.F) {
	for _, s := range []string{"", "{", "{\"key\":\"a\",\"value\":1}\n", "{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\"", "\n", "x\n", "\x00\x00", "{\"key\":\"a\",\"value\":1}\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "log.jsonl")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLog(path)
		if err != nil {
			return
		}
		n := l.Len()
		if err := l.Append("a new key", 1); err != nil {
			t.Fatal(err)
		}
		l.Close()
		l = mustOpen(t, path)
		defer l.Close()
		var got int
		if ok, err := l.Get("a new key", &got); !ok || err != nil || got != 1 {
			t.Fatal(ok, err, got)
		}
		if l.Len() < n || l.Len() > n+1 {
			t.Fatalf("%d keys, before there were %d", l.Len(), n)
		}
	})
}

func mustOpen(t *testing.T, path string) *Log {
	t.Helper()
	l, err := OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
