package serve

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"expo/align/reward"
)

// lengths rewards long answers.
type lengths struct{}

func (lengths) Score(_ context.Context, items []reward.Item) ([]float64, error) {
	out := make([]float64, len(items))
	for i, it := range items {
		out[i] = float64(len(it.Response)) / 10
	}
	return out, nil
}

// TestPage uses the page as a person does: types, watches, slides, votes.
func TestPage(t *testing.T) {
	b := chromium(t)
	file := filepath.Join(t.TempDir(), "votes.jsonl")
	v, err := OpenVotes(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Pair: tinyPair(t, true), Reward: lengths{}, RewardName: "length", Votes: v, LocalHost: true})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { h.Close(); s.Close(); v.Close() })

	b.open(h.URL, 1280, 900, false)
	if got := b.eval("document.querySelectorAll('.column').length"); got != "3" {
		t.Fatalf("%s columns, want 3", got)
	}
	// The cursor is in the prompt from the start; no mouse is needed.
	b.typeText("Say something")
	b.eval("document.getElementById('max-tokens').value = 40")
	b.key("Enter", 2)
	b.until("document.querySelector('[data-model=expo] .answer').textContent.length > 0")
	b.until("document.getElementById('message').textContent === 'Finished.'")
	for _, m := range []string{"sft", "aligned", "expo"} {
		c := "document.querySelector('[data-model=" + m + "] "
		if got := b.eval(c + ".answer').textContent.length"); got == "0" {
			t.Errorf("%s: no answer", m)
		}
		if got := b.eval(c + ".answer').children.length"); got == "0" {
			t.Errorf("%s: its tokens are not apart", m)
		}
		if got := b.text(c + ".reward').textContent"); !strings.HasPrefix(got, "Reward ") {
			t.Errorf("%s: reward %q", m, got)
		}
		if got := b.text(c + ".state').textContent"); !strings.Contains(got, "tokens") {
			t.Errorf("%s: state %q", m, got)
		}
	}
	if got := b.eval("document.querySelectorAll('.answer .more, .answer .less').length"); got == "0" {
		t.Error("no token has a colour")
	}
	// A token tells what each model thinks of it.
	b.eval("document.querySelector('[data-model=expo] .answer').focus()")
	b.key("ArrowRight", 0)
	if got := b.text("document.querySelector('[data-model=expo] .token').textContent"); !strings.Contains(got, "SFT") || !strings.Contains(got, "ExPO") {
		t.Errorf("the first token says %q", got)
	}
	b.screenshot("desktop")

	// The dial answers again with another model, and only that one.
	sft := b.text("document.querySelector('[data-model=sft] .answer').textContent")
	before := b.text("document.querySelector('[data-model=expo] .answer').textContent")
	b.eval(`(() => { const a = document.getElementById('alpha'); a.value = 2; for (const e of ['input', 'change']) a.dispatchEvent(new Event(e)); })()`)
	b.until("document.querySelector('[data-model=expo] h2').textContent.includes('α = 2')")
	b.until("document.getElementById('message').textContent === 'Finished.'")
	if got := b.text("document.querySelector('[data-model=expo] .answer').textContent"); got == before {
		t.Error("another α gave the same answer")
	}
	if got := b.text("document.querySelector('[data-model=sft] .answer').textContent"); got != sft {
		t.Error("the dial changed the SFT model's answer")
	}

	// A link brings the settings back.
	link := b.text("location.href")
	if !strings.Contains(link, "a=2") || !strings.Contains(link, "p=Say+something") {
		t.Errorf("link %s", link)
	}
	b.open(link, 1280, 900, true)
	if got := b.text("document.getElementById('prompt').value + '|' + document.getElementById('alpha-number').value"); got != "Say something|2" {
		t.Errorf("the link gave %q", got)
	}

	// Blind: letters, no rewards, no colours; then the vote, and the names.
	b.eval("document.getElementById('blind').click()")
	b.key("Enter", 2)
	b.until("!document.getElementById('ballot').hidden")
	if got := b.text("document.getElementById('columns').textContent"); strings.Contains(got, "SFT") || strings.Contains(got, "ExPO") || strings.Contains(got, "α") {
		t.Errorf("a blind comparison tells names: %q", got)
	}
	if got := b.eval("document.querySelectorAll('[data-model], .answer .more, .answer .less, .reward:not([hidden])').length"); got != "0" {
		t.Errorf("%s things tell which column is whose", got)
	}
	b.eval("document.activeElement.blur()")
	b.key("2", 0)
	b.until("!document.getElementById('votes').hidden")
	won := b.text("document.querySelectorAll('.column h2')[1].textContent")
	if !strings.HasPrefix(won, "B: ") {
		t.Errorf("after the vote the second column is called %q", won)
	}
	b.screenshot("dark")

	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d rows, want one for each that lost:\n%s", len(lines), raw)
	}
	for _, l := range lines {
		var a annotation
		if err := json.Unmarshal([]byte(l), &a); err != nil {
			t.Fatal(err)
		}
		winner := a.Generator1
		if a.Preference == 2 {
			winner = a.Generator2
		}
		name := map[string]string{"sft": "SFT", "aligned": "Aligned", "expo@2": "ExPO"}[winner]
		if a.Instruction != "Say something" || name == "" || !strings.HasPrefix(won, "B: "+name) {
			t.Errorf("row %s, and %q won", l, won)
		}
	}

	// On a phone the columns are below each other and nothing sticks out.
	b.open(link, 390, 844, false)
	b.key("Enter", 2)
	b.until("document.getElementById('message').textContent === 'Finished.'")
	if got := b.eval("document.documentElement.scrollWidth <= innerWidth"); got != "true" {
		t.Errorf("the page is %s wide on a phone", b.eval("document.documentElement.scrollWidth"))
	}
	if got := b.eval("new Set([...document.querySelectorAll('.column')].map(c => c.getBoundingClientRect().left)).size"); got != "1" {
		t.Error("columns are beside each other on a phone")
	}
	b.screenshot("phone")
	if len(b.faults) > 0 {
		t.Errorf("the browser complains: %s", b.faults)
	}

	// Every control has a name for those who cannot see it.
	if got := b.eval(`[...document.querySelectorAll('input, select, textarea, button')].filter(e => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())).map(e => e.id)`); got != "[]" {
		t.Errorf("controls without a name: %s", got)
	}
}

// TestPageKey gives the key that a server wants, and sees what goes wrong.
func TestPageKey(t *testing.T) {
	b := chromium(t)
	_, url := testServer(t, func(o *Options) { o.Keys = []string{"open sesame"}; o.Limits.Context = 64 })
	b.show(url, 800, 800, false)
	b.until("document.getElementById('key-dialog')?.open")
	b.typeText("wrong")
	b.eval("document.querySelector('#key-form button').click()")
	b.until("document.getElementById('key').value === '' && document.getElementById('key-dialog').open")
	b.typeText("open sesame")
	b.eval("document.querySelector('#key-form button').click()")
	b.until("document.body.dataset.ready === '1'")
	b.eval("document.getElementById('run').click()")
	b.until("document.getElementById('message').textContent === 'There is no prompt.'")
	b.eval("document.getElementById('prompt').value = 'x'.repeat(100)")
	b.eval("document.getElementById('run').click()")
	b.until("document.querySelectorAll('.failed').length === 3")
	if got := b.text("document.querySelector('.failed').textContent"); !strings.Contains(got, "context of 64") {
		t.Errorf("the page says %q", got)
	}
	b.until("document.getElementById('stop').disabled")
	// A long answer can be stopped.
	b.eval("document.getElementById('prompt').value = 'x'; document.getElementById('temperature').value = 1; document.getElementById('max-tokens').value = ''")
	b.eval("document.getElementById('run').click()")
	b.key("Escape", 0)
	b.until("/^(Stopped|Finished)/.test(document.getElementById('message').textContent)")
}

// TestScreenshots looks at a server that runs, if the environment names one.
func TestScreenshots(t *testing.T) {
	url := os.Getenv("EXPO_SERVE_URL")
	if url == "" || os.Getenv("EXPO_SCREENSHOTS") == "" {
		t.Skip("EXPO_SERVE_URL and EXPO_SCREENSHOTS are not set")
	}
	b := chromium(t)
	for _, look := range []struct {
		name          string
		width, height int
		dark, blind   bool
	}{
		{"live-light", 1280, 900, false, false}, {"live-dark", 1280, 900, true, true}, {"live-phone", 390, 844, false, false}, {"live-phone-dark", 390, 844, true, false},
	} {
		b.open(url, look.width, look.height, look.dark)
		if look.blind {
			b.eval("document.getElementById('blind').click()")
		}
		b.eval("(() => { const e = document.getElementById('examples'); e.selectedIndex = 2; e.dispatchEvent(new Event('change')); document.getElementById('max-tokens').value = 90; })()")
		b.key("Enter", 2)
		if look.blind {
			b.until("!document.getElementById('ballot').hidden")
			b.screenshot(look.name + "-before")
			b.eval("document.activeElement.blur()")
			b.key("1", 0)
			b.until("!document.getElementById('votes').hidden")
		}
		b.until("document.getElementById('message').textContent === 'Finished.'")
		b.eval("document.querySelector('.answer').focus()")
		b.key("ArrowRight", 0)
		b.key("ArrowRight", 0)
		b.screenshot(look.name)
	}
}
