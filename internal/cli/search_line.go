package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"expo"
	"expo/lm/generate"
	"expo/lm/generate/local"
	"expo/lm/model"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// A searchLine is who answers at each α: a pair that is mixed here, or servers.
type searchLine interface {
	// at gives who answers at an α. What an earlier call gave is of no more use.
	at(ctx context.Context, alpha float64) (generate.Generator, error)
	// identity is what samples at an α are kept under.
	identity(alpha float64) any
	// has tells whether there is anyone at an α.
	has(alpha float64) bool
	// templated tells whether conversations can be answered.
	templated() bool
	// width is how many requests it is worth asking at once.
	width() int
	close()
}

// localLine mixes a pair in memory.
type localLine struct {
	pair    *pair
	opt     expo.Options
	sum     string
	threads int
	batch   int
	*local.Engine
	alpha float64
}

// openLine opens the pair at the aligned end.
func (f *searchFlags) openLine(ctx context.Context) (*localLine, error) {
	opt, err := f.mixing()
	if err != nil {
		return nil, err
	}
	load := model.LoadOptions{Jobs: f.jobs, NoMap: true} // other weights will take their place
	switch strings.ToLower(f.quantize) {
	case "":
	case "q8_0":
		load.Quantize = model.Q8_0
	default:
		return nil, usagef("--quantize %s: use q8_0", f.quantize)
	}
	l := &localLine{opt: opt, batch: max(f.maxBatch, 16)}
	if l.pair, err = openPair(f.sft, f.aligned); err != nil {
		return nil, err
	}
	if err := l.load(ctx, f, load); err != nil {
		l.pair.Close()
		return nil, err
	}
	return l, nil
}

func (l *localLine) load(ctx context.Context, f *searchFlags, load model.LoadOptions) error {
	view, err := expo.Extrapolate(l.pair.Pair, l.opt)
	if err != nil {
		return err
	}
	eo := local.Options{MaxBatch: f.maxBatch}
	if l.Engine, err = local.Open(ctx, view, load, eo); err != nil {
		return err
	}
	template := ""
	if f.template != "" {
		t, err := chatTemplate(f.template, nil)
		if err != nil {
			return err
		}
		l.Engine = local.New(l.Engine.Model(), l.Engine.Tokenizer(), t, eo)
		template = f.template
	}
	h := sha256.New()
	for _, c := range []*checkpoint.Checkpoint{l.pair.SFT, l.pair.Aligned} {
		s, err := fingerprint(c)
		if err != nil {
			return err
		}
		fmt.Fprintln(h, s)
	}
	fmt.Fprintf(h, "%+v %s %s %s", l.opt, f.quantize, f.dtype, template)
	l.sum = hex.EncodeToString(h.Sum(nil))
	return nil
}

func (l *localLine) at(ctx context.Context, alpha float64) (generate.Generator, error) {
	if alpha == l.alpha {
		return l.Engine, nil
	}
	opt := l.opt
	opt.Alpha = alpha
	view, err := expo.Extrapolate(l.pair.Pair, opt)
	if err != nil {
		return nil, err
	}
	if err := l.Update(ctx, view); err != nil {
		return nil, err
	}
	l.alpha = alpha
	return l.Engine, nil
}

func (l *localLine) identity(alpha float64) any { return []any{l.sum, alpha} }
func (l *localLine) has(float64) bool           { return true }
func (l *localLine) templated() bool            { return l.Template() != nil }
func (l *localLine) width() int                 { return 2 * l.batch }

func (l *localLine) close() {
	l.Model().Close()
	l.pair.Close()
}

// fingerprintBytes of each tensor are enough to tell one training run from
// another, and few enough to read of a large model at once.
const fingerprintBytes = 4096

// fingerprint is a digest of a model: its settings, its small files, and the
// beginning of each tensor. It does not change when files are moved.
func fingerprint(c *checkpoint.Checkpoint) (string, error) {
	h := sha256.New()
	for t := range c.Tensors() {
		fmt.Fprintf(h, "%s %v %v\n", t.Name, t.DType, t.Shape)
		b := make([]byte, min(t.Size(), fingerprintBytes))
		if err := tensor.ReadFull(t.Data, b, 0); err != nil {
			return "", fmt.Errorf("%s: %s: %w", c.Name(), t.Name, err)
		}
		h.Write(b)
	}
	for _, name := range []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja"} {
		if b, err := fs.ReadFile(c.Files(), name); err == nil {
			fmt.Fprintf(h, "%s %d\n", name, len(b))
			h.Write(b)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// servedLine asks servers, some for each α.
type servedLine struct {
	byAlpha map[float64]*servers
	jobs    int
}

// parseEndpoints reads ALPHA=URL: the servers of each α, and the α in the order
// in which they are named.
func (f *searchFlags) parseEndpoints() (urls map[float64][]string, alphas []float64, err error) {
	urls = map[float64][]string{}
	for _, e := range f.endpoints {
		name, url, ok := strings.Cut(e, "=")
		alpha, err := strconv.ParseFloat(name, 64)
		if !ok || err != nil || alpha-alpha != 0 || url == "" {
			return nil, nil, fmt.Errorf("--endpoint %q: want ALPHA=URL, such as 0.3=http://localhost:8000/v1", e)
		}
		if urls[alpha] == nil {
			alphas = append(alphas, alpha)
		}
		urls[alpha] = append(urls[alpha], url)
	}
	if urls[0] == nil {
		return nil, nil, errors.New("all α are compared with the aligned model: add --endpoint 0=URL")
	}
	return urls, alphas, nil
}

// openEndpoints finds out which models are served.
func (f *searchFlags) openEndpoints(ctx context.Context, a *app) (*servedLine, error) {
	urls, alphas, err := f.parseEndpoints()
	if err != nil {
		return nil, usageError{err}
	}
	l := &servedLine{byAlpha: map[float64]*servers{}, jobs: f.jobs}
	if l.jobs <= 0 {
		l.jobs = 16
	}
	for _, alpha := range alphas {
		fleet := f.fleet
		fleet.baseURLs, fleet.jobs = urls[alpha], l.jobs
		s, err := fleet.open(ctx, a, &spendFlags{})
		if err != nil {
			return nil, fmt.Errorf("α %g: %w", alpha, err)
		}
		l.byAlpha[alpha] = s
	}
	return l, nil
}

func (l *servedLine) at(_ context.Context, alpha float64) (generate.Generator, error) {
	s, ok := l.byAlpha[alpha]
	if !ok {
		return nil, fmt.Errorf("no --endpoint for α %g", alpha)
	}
	return s.Fleet, nil
}

func (l *servedLine) identity(alpha float64) any {
	return []any{"served", l.byAlpha[alpha].model, alpha}
}

func (l *servedLine) has(alpha float64) bool { return l.byAlpha[alpha] != nil }
func (l *servedLine) templated() bool        { return true }
func (l *servedLine) width() int             { return l.jobs }
func (l *servedLine) close()                 {}
