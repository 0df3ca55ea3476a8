package serve

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// A browser is headless Chromium, steered through a pipe by its DevTools
// protocol (https://chromedevtools.github.io/devtools-protocol/).
type browser struct {
	t       *testing.T
	in      io.WriteCloser
	session string

	mu      sync.Mutex
	next    int
	waiting map[int]chan message
	faults  []string // exceptions and errors that pages log
}

type message struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// chromium starts a browser, or skips the test where there is none.
func chromium(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium is installed, so the page is not tested in a browser")
	}
	ours, theirIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	theirOut, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp("", "expo-chromium")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--hide-scrollbars", "--user-data-dir="+profile, "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirOut, theirIn} // 3: commands, 4: answers
	if err := cmd.Start(); err != nil {
		t.Skipf("Chromium does not start: %v", err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &browser{t: t, in: in, waiting: map[int]chan message{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.read(ours)
	}()
	t.Cleanup(func() {
		// The end of the pipe is the end of the browser.
		b.in.Close()
		patience := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		patience.Stop()
		ours.Close()
		<-ended
		os.RemoveAll(profile)
	})
	return b
}

func (b *browser) read(r io.Reader) {
	in := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := in.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			for _, c := range b.waiting {
				close(c)
			}
			b.waiting = nil
			b.mu.Unlock()
			return
		}
		var m message
		if json.Unmarshal(bytes.TrimSuffix(line, []byte{0}), &m) != nil {
			continue
		}
		b.mu.Lock()
		switch {
		case m.ID > 0:
			if c := b.waiting[m.ID]; c != nil {
				c <- m
				delete(b.waiting, m.ID)
			}
		case m.Method == "Runtime.exceptionThrown", m.Method == "Log.entryAdded" && strings.Contains(string(m.Params), `"level":"error"`):
			b.faults = append(b.faults, string(m.Params))
		}
		b.mu.Unlock()
	}
}

// call sends a command and decodes its result.
func (b *browser) call(method string, params map[string]any, result any) {
	b.t.Helper()
	b.mu.Lock()
	b.next++
	id := b.next
	c := make(chan message, 1)
	if b.waiting == nil {
		b.mu.Unlock()
		b.t.Fatalf("%s: the browser has ended", method)
	}
	b.waiting[id] = c
	b.mu.Unlock()
	doc := map[string]any{"id": id, "method": method, "params": params}
	if params == nil {
		doc["params"] = map[string]any{}
	}
	if b.session != "" {
		doc["sessionId"] = b.session
	}
	line, err := json.Marshal(doc)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(line, 0)); err != nil {
		b.t.Fatal(err)
	}
	select {
	case m, ok := <-c:
		if !ok {
			b.t.Fatalf("%s: the browser has ended", method)
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.t.Fatal(err)
			}
		}
	case <-time.After(60 * time.Second):
		b.t.Fatalf("%s: no answer from the browser", method)
	}
}

// open shows the page in a new tab and waits until it can be used.
func (b *browser) open(url string, width, height int, dark bool) {
	b.t.Helper()
	b.show(url, width, height, dark)
	b.until("document.body && document.body.dataset.ready === '1'")
}

// show opens a new tab.
func (b *browser) show(url string, width, height int, dark bool) {
	b.t.Helper()
	b.session = ""
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var s struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &s)
	b.session = s.SessionID
	b.call("Runtime.enable", nil, nil)
	b.call("Log.enable", nil, nil)
	b.call("Page.enable", nil, nil)
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.call("Page.navigate", map[string]any{"url": url}, nil)
}

// eval gives the value of an expression as JSON.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	return string(r.Result.Value)
}

// text is eval of an expression that gives a string.
func (b *browser) text(expression string) string {
	b.t.Helper()
	var s string
	if err := json.Unmarshal([]byte(b.eval(expression)), &s); err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return s
}

// until waits for a condition.
func (b *browser) until(condition string) {
	b.t.Helper()
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if b.eval("Boolean("+condition+")") == "true" {
			return
		}
	}
	b.t.Fatalf("never: %s\nmessage: %s\nfaults: %v", condition, b.eval("document.getElementById('message')?.textContent"), b.faults)
}

// key presses a key as the keyboard does.
func (b *browser) key(key string, modifiers int) {
	b.t.Helper()
	code := map[string]int{"Enter": 13, "Escape": 27, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37}[key]
	p := map[string]any{"type": "keyDown", "key": key, "modifiers": modifiers}
	if code > 0 {
		p["windowsVirtualKeyCode"] = code
		if key != "Enter" {
			p["code"] = key
		}
	} else {
		p["text"] = key
	}
	b.call("Input.dispatchKeyEvent", p, nil)
	p["type"] = "keyUp"
	delete(p, "text")
	b.call("Input.dispatchKeyEvent", p, nil)
}

// typeText types into what has the focus.
func (b *browser) typeText(s string) {
	b.t.Helper()
	b.call("Input.insertText", map[string]any{"text": s}, nil)
}

// screenshot writes the whole page to a file of the folder in the environment
// variable EXPO_SCREENSHOTS, if there is one.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("EXPO_SCREENSHOTS")
	if dir == "" {
		return
	}
	var r struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &r)
	data, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(fmt.Sprintf("%s/%s.png", dir, name), data, 0o666)
	}
	if err != nil {
		b.t.Error(err)
	}
}
