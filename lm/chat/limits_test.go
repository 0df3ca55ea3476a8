package chat

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

var hello = []Message{{Role: "user", Content: "Hello"}}

// TestLimits renders templates that would run, or allocate, without end.
func TestLimits(t *testing.T) {
	tests := []struct{ name, source string }{
		{"range", "{% for i in range(10**9) %}x{% endfor %}"},
		{"nested loops", "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"},
		{"loops that write", "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}"},
		{"much text", "{% for a in range(99999) %}" + strings.Repeat("long text ", 10000) + "{% endfor %}"},
		{"many assignments", "{% for a in range(99999) %}" + strings.Repeat("{% set x = y %}", 5000) + "{% endfor %}"},
		{"many conditions", "{% for a in range(99999) %}{% for a in range(99999) if " + strings.Repeat("x or ", 100) + "y %}{% endfor %}{% endfor %}"},
		{"many names in a macro", "{% macro m() %}" + strings.Repeat("{% if x %}{% endif %}", 1000) + "{% endmacro %}{% for a in range(99999) %}{{ m() }}{% endfor %}"},
		{"many names in a call", "{% macro m() %}{% for a in range(99999) %}{{ caller() }}{% endfor %}{% endmacro %}{% call m() %}" + strings.Repeat("{% if x %}{% endif %}", 1000) + "{% endcall %}"},
		{"string times number", "{{ 'x' * 10**12 }}"},
		{"list times number", "{{ [1] * 10**12 }}"},
		{"string doubled", "{% set ns = namespace(s='xx') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}"},
		{"string added", "{% set ns = namespace(s='xx') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}"},
		{"string kept", "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = ns.l + [messages[0].content * 99999] %}{% endfor %}"},
		{"list doubled", "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}"},
		{"replaced", "{% set ns = namespace(s='xx') %}{% for i in range(99) %}{% set ns.s = ns.s.replace('x', 'xxxxxxxxxxx') %}{% endfor %}"},
		{"replaced by a filter", "{{ ('x' * 9999) | replace('x', 'y' * 99999) }}"},
		{"joined", "{{ range(99999) | join('x' * 99999) }}"},
		{"formatted", "{% set ns = namespace(s='xx') %}{% for i in range(99) %}{% set ns.s = '%s%s%s%s' % (ns.s, ns.s, ns.s, ns.s) %}{% endfor %}"},
		{"formatted with format", "{% set ns = namespace(s='xx') %}{% for i in range(99) %}{% set ns.s = '{0}{0}{0}'.format(ns.s) %}{% endfor %}"},
		{"padded", "{{ 'x'.center(10**15) }}"},
		{"centered", "{{ 'x' | center(10**15) }}"},
		{"indented", "{{ ('x\n' * 9999) | indent(99999) }}"},
		{"captured", "{% set ns = namespace(s='xx') %}{% for i in range(99) %}{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}{% endfor %}"},
		{"tree printed", "{% set ns = namespace(s=['x']) %}{% for i in range(90) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}"},
		{"tree as JSON", "{% set ns = namespace(s=['x']) %}{% for i in range(90) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson }}"},
		{"tree as indented JSON", "{% set ns = namespace(s=['x']) %}{% for i in range(90) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson(indent=900) }}"},
		{"trees compared", "{% set ns = namespace(a=['x'], b=['x']) %}{% for i in range(90) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}"},
		{"trees ordered", "{% set ns = namespace(a=['x'], b=['x']) %}{% for i in range(90) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a < ns.b }}"},
		{"deep list printed", "{% set ns = namespace(s=[]) %}{% for i in range(99999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}"},
		{"deep list as JSON", "{% set ns = namespace(s=[]) %}{% for i in range(99999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s | tojson }}"},
		{"deep lists compared", "{% set ns = namespace(a=[], b=[]) %}{% for i in range(99999) %}{% set ns.a = [ns.a] %}{% set ns.b = [ns.b] %}{% endfor %}{{ ns.a == ns.b }}"},
		{"recursion", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"},
		{"recursion through a default", "{% macro m(x=m()) %}{{ x }}{% endmacro %}{{ m() }}"},
		{"recursion through a call", "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}"},
		{"recursion of two", "{% macro a() %}{{ b() }}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}"},
		{"deep recursion", "{% macro m() %}" + strings.Repeat("{% if true %}", 95) + "{{ " + strings.Repeat("'' ~ ('x' if false else [", 70) + "m()" +
			strings.Repeat("])", 70) + " }}" + strings.Repeat("{% endif %}", 95) + "{% endmacro %}{{ m() }}"},
		{"deeper recursion", "{% macro m() %}" + strings.Repeat("{% for x in [1] %}", 95) + "{{ " + strings.Repeat("[", 290) + "m()" +
			strings.Repeat("]", 290) + " }}" + strings.Repeat("{% endfor %}", 95) + "{% endmacro %}{{ m() }}"},
		{"calls that double", func() string {
			var b strings.Builder
			b.WriteString("{% macro m0() %}x{% endmacro %}")
			for i := range 60 {
				fmt.Fprintf(&b, "{%% macro m%d() %%}{{ m%d() }}{{ m%d() }}{%% endmacro %%}", i+1, i, i)
			}
			return b.String() + "{{ m60() }}"
		}()},
		{"sorted", "{% for i in range(99999) %}{% set x = range(99999) | sort(reverse=true) %}{% endfor %}"},
		{"mapped", "{% for i in range(99999) %}{% set x = range(99999) | map('string') | list %}{% endfor %}"},
		{"chosen", "{% for i in range(99999) %}{% set x = range(99999) | select('in', range(99999)) | list %}{% endfor %}"},
		{"searched", "{% set s = 'a' * 999999 %}{% for i in range(99999) %}{% set x = ('a' * 999 + 'b') in s %}{% endfor %}"},
		{"counted", "{% set s = 'a' * 999999 %}{% for i in range(99999) %}{% set x = s.count('a') %}{% endfor %}"},
		{"measured", "{% set s = 'é' * 999999 %}{% for i in range(99999) %}{% set x = s | length %}{% endfor %}"},
		{"indexed", "{% set s = 'é' * 999999 %}{% for i in range(99999) %}{% set x = s[999998] %}{% endfor %}"},
		{"sliced", "{% set s = 'é' * 999999 %}{% for i in range(99999) %}{% set x = s[::-1] %}{% endfor %}"},
		{"split", "{% set s = 'a ' * 999999 %}{% for i in range(99999) %}{% set x = s.split() %}{% endfor %}"},
		{"trimmed", "{% set s = ' ' * 999999 %}{% for i in range(99999) %}{% set x = s | trim %}{% endfor %}"},
		{"grouped", "{% for i in range(99999) %}{% set x = range(9999) | groupby('x') %}{% endfor %}"},
		{"batched", "{{ [1] | batch(10**15, 0) | list }}"},
		{"cut", "{{ [1] | slice(10**15, 0) | list }}"},
		{"copied", "{% set d = dict(a=1) %}{% set ns = namespace(d=d) %}{% for i in range(99999) %}{% set ns.d = dict(ns.d, **{'k' ~ i: i}) %}{% endfor %}"},
		{"spread", "{% macro m() %}{% endmacro %}{% for i in range(99999) %}{{ dict(*[range(99999)]) }}{% endfor %}"},
		{"date", "{{ strftime_now('%c' * 10**7) }}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tmpl, err := Parse(tt.source)
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			text, err := tmpl.Render(context.Background(), hello, Options{})
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrLimit) && tt.name != "grouped" && tt.name != "spread" {
				t.Errorf("got %d bytes, %v; want ErrLimit", len(text), err)
			}
			if err == nil {
				t.Error("no error")
			}
			var e *TemplateError
			if !errors.As(err, &e) || e.Raised {
				t.Errorf("the error is a %T: %v", err, err)
			}
			if took > 20*time.Second {
				t.Errorf("took %v", took)
			}
			made := after.TotalAlloc - before.TotalAlloc
			if made > 4<<30 {
				t.Errorf("allocated %d MB in all", made>>20)
			}
			t.Logf("%v, %d MB made, %d MB from the system: %v", took.Round(time.Millisecond), made>>20, after.Sys>>20, err)
		})
	}
}

// TestLargeSources parses templates of the largest size, made to be hard.
func TestLargeSources(t *testing.T) {
	fill := func(head, piece, tail string) string {
		n := (maxSource/2 - len(head) - len(tail)) / len(piece)
		return head + strings.Repeat(piece, n) + tail
	}
	pairs := func(open, inside, end string) string {
		n := maxSource / 2 / (len(open) + len(end))
		return "{{" + strings.Repeat(open, n) + inside + strings.Repeat(end, n) + "}}"
	}
	tests := []struct {
		name, source, want string // want is what the error says, "" if there is none
	}{
		{"outputs", fill("", "{{x}}", ""), ""},
		{"text and outputs", fill("", "a{{x}}", ""), ""},
		{"blocks", fill("", "{% if x %}{% endif %}", ""), ""},
		{"sets", fill("", "{%set x=x%}", ""), ""},
		{"nested blocks", fill("", "{% if x %}", ""), "nested too deeply"},
		{"nested loops", fill("", "{% for x in y %}{% set x = y %}", ""), "nested too deeply"},
		{"elif", fill("{% if x %}", "{% elif x %}", "{% endif %}"), ""},
		{"parentheses", pairs("(", "x", ")"), "nested too deeply"},
		{"lists", pairs("[", "x", "]"), "nested too deeply"},
		{"mappings", pairs("{x:", "x", "}"), "nested too deeply"},
		{"calls", pairs("x(", "x", ")"), "nested too deeply"},
		{"subscripts", pairs("x[", "x", "]"), "nested too deeply"},
		{"open parentheses", fill("{{", "(", "}}"), "unexpected"},
		{"not", fill("{{", "not ", "x}}"), "nested too deeply"},
		{"signs", fill("{{", "-", "x}}"), "nested too deeply"},
		{"attributes", fill("{{x", ".x", "}}"), "nested too deeply"},
		{"filters", fill("{{x", "|x", "}}"), "nested too deeply"},
		{"sum", fill("{{x", "+x", "}}"), "nested too deeply"},
		{"and", fill("{{x", " and x", "}}"), "nested too deeply"},
		{"if else", fill("{{x", " if x else x", "}}"), "nested too deeply"},
		{"if", fill("{{x", " if x", "}}"), "nested too deeply"},
		{"concat", fill("{{x", "~x", "}}"), ""},
		{"comparisons", fill("{{x", "<x", "}}"), ""},
		{"list", fill("{{[", "x,", "]}}"), ""},
		{"arguments", fill("{{f(", "x,", ")}}"), ""},
		{"open tags", fill("", "{%", ""), "no end"},
		{"open tags and spaces", fill("", "{%          ", ""), "no end"},
		{"open comments", fill("", "{#", ""), "no end"},
		{"raw tags", fill("{% raw %}", "{% endraw ", ""), "no end"},
		{"raw tags and spaces", fill("{% raw %}", "{%      ", ""), "no end"},
		{"spaces", fill("x{%", " ", "if x %}{% endif %}"), ""},
		{"newlines", fill("", "\n", "{%- if x %}{% endif %}"), ""},
		{"braces", fill("", "{", ""), "no end"},
		{"quotes", fill("{{'", `\'`, "'}}"), ""},
		{"macros", fill("", "{%macro m()%}{%endmacro%}", ""), ""},
		{"names", fill("{{", "x", "}}"), ""},
		{"digits", fill("{{", "1", "}}"), "64 bits"},
		{"underscores", fill("{{1", "_", "}}"), "unexpected"},
		{"too large", strings.Repeat("x", maxSource+1), "at most"},
		{"no UTF-8", "a\xff", "UTF-8"},
	}
	for _, tt := range tests {
		start := time.Now()
		tmpl, err := Parse(tt.source)
		if tt.want == "" && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		if tmpl != nil {
			_, err := tmpl.Render(context.Background(), hello, Options{})
			if err != nil && strings.Contains(err.Error(), "engine failed") {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		took := time.Since(start)
		if took > 20*time.Second {
			t.Errorf("%s: took %v", tt.name, took)
		}
		if took > 200*time.Millisecond {
			t.Logf("%s: took %v", tt.name, took)
		}
	}
}

// TestContext stops a template by its context.
func TestContext(t *testing.T) {
	tmpl, err := Parse("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := tmpl.Render(ctx, hello, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err = tmpl.Render(ctx, hello, Options{})
	var e *TemplateError
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) || e.Line != 1 {
		t.Errorf("got %v, want %v in line 1", err, context.DeadlineExceeded)
	}
}

// TestLongConversation renders more than a template may do without reason.
func TestLongConversation(t *testing.T) {
	var messages []Message
	for range 1000 {
		messages = append(messages,
			Message{Role: "user", Content: strings.Repeat("A question? ", 100)},
			Message{Role: "assistant", Content: strings.Repeat("An answer. ", 100)})
	}
	for _, name := range Names() {
		tmpl, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := tmpl.Render(context.Background(), messages, Options{AddGenerationPrompt: true, BOS: "<s>", EOS: "</s>"})
		if err != nil || len(text) < 1000*2200 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
}
