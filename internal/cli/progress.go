package cli

import (
	"fmt"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress shows how far a long command is: a bar on a terminal, otherwise a
// line now and then. Commands shorter than a second show nothing.
type progress struct {
	a     *app
	what  string
	mu    sync.Mutex
	start time.Time
	last  time.Time
	bars  *mpb.Progress
	bar   *mpb.Bar
}

const (
	barDelay  = 500 * time.Millisecond
	lineEvery = 10 * time.Second
)

func (a *app) progress(what string) *progress {
	now := time.Now()
	return &progress{a: a, what: what, start: now, last: now}
}

// update may be called from many goroutines.
func (p *progress) update(done, total int64) {
	if p.a.quiet || p.a.json || total == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.a.terminal {
		if now.Sub(p.last) >= lineEvery {
			p.last = now
			fmt.Fprintf(p.a.err, "expo: %s: %d %%\n", p.what, 100*done/total)
		}
		return
	}
	if p.bar == nil {
		if now.Sub(p.start) < barDelay {
			return
		}
		p.bars = mpb.New(mpb.WithOutput(p.a.err), mpb.WithWidth(48))
		p.bar = p.bars.AddBar(total,
			mpb.PrependDecorators(decor.Name("expo: "+p.what+" ")),
			mpb.AppendDecorators(decor.Percentage(), decor.Name(" "), decor.AverageETA(decor.ET_STYLE_GO)),
			mpb.BarRemoveOnComplete())
	}
	p.bar.SetCurrent(done)
}

// stop takes the bar away.
func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
		p.bar = nil
	}
}
