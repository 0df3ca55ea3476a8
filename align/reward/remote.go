package reward

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"expo/lm/chat"
)

// RemoteOptions say where a server is that runs a reward model, and how to talk
// to it.
type RemoteOptions struct {
	// URL is the server's address, with /v1 or without
	// (http://localhost:8000/v1), or that of one endpoint itself
	// (http://localhost:8000/classify).
	URL string
	// Endpoint is "classify", "pooling" or "score", as vLLM names them; by
	// default the one that URL ends in, or else the first of them that the
	// server has.
	Endpoint string
	// Model is the name that the server gives the model; it may be empty where
	// the server runs one.
	Model string
	// APIKey is sent as a bearer token. It appears in no error.
	APIKey string

	// Template makes text of conversations here, as [Classifier] does; without
	// it the server is given the messages and applies its own. BOS is taken out
	// of the text, EOS is for the template.
	Template *chat.Template
	BOS, EOS string

	// Label is the number of the output that is the reward, the first being 0,
	// for classifiers with several.
	Label string
	// Sigmoid says that the server's outputs went through a sigmoid; the
	// rewards are then what went into it. Servers of today are asked not to do
	// that, older ones do it always.
	Sigmoid bool

	// Concurrency is how many requests are under way at once, 16 by default.
	Concurrency int
	// Attempts is how often a request is sent until it succeeds, 6 by default.
	Attempts int
	// Timeout bounds one attempt, 2 minutes by default.
	Timeout time.Duration
	// Backoff is the mean wait after the first failure, half a second by
	// default; it doubles each time, up to 30 seconds. A server's Retry-After
	// counts instead if it is longer.
	Backoff time.Duration

	// Client sends the requests; by default one that keeps as many connections
	// as there are requests at once.
	Client *http.Client
}

// Remote is a reward model that a server runs: vLLM
// (https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html), or
// another one with the same endpoints. Each item is a request of its own; the
// server batches them.
//
// An item that the server refuses, or that fails after all attempts, has no
// score. What concerns every item (the address, the key, the model's name, a
// server that is gone) ends the call.
type Remote struct {
	opt  RemoteOptions
	base *url.URL
	out  int                    // the output that is the reward, -1: there is one
	kind atomic.Pointer[string] // the endpoint that the server was found to have
	mu   sync.Mutex             // held while it is being found
}

// endpoints in the order in which they are tried.
var endpoints = [...]string{"classify", "pooling", "score"}

// NewRemote checks the options. It sends nothing.
func NewRemote(opt RemoteOptions) (*Remote, error) {
	u, err := url.Parse(opt.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("reward: %q is not the address of a server, such as http://localhost:8000/v1", safeURL(opt.URL))
	}
	r := &Remote{opt: opt, base: u, out: -1}
	r.opt.APIKey = strings.TrimSpace(opt.APIKey)
	if strings.ContainsFunc(r.opt.APIKey, func(c rune) bool { return c < ' ' || c > '~' }) {
		return nil, errors.New("reward: the API key holds characters that no key has")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if last := path.Base(u.Path); isEndpoint(last) {
		if opt.Endpoint != "" && opt.Endpoint != last {
			return nil, fmt.Errorf("reward: %s is not the endpoint %s", safeURL(opt.URL), opt.Endpoint)
		}
		r.opt.Endpoint = last
		u.Path = strings.TrimSuffix(u.Path, "/"+last)
	} else {
		u.Path = strings.TrimSuffix(u.Path, "/v1")
	}
	if r.opt.Endpoint != "" && !isEndpoint(r.opt.Endpoint) {
		return nil, fmt.Errorf("reward: endpoint %q is none of %s", r.opt.Endpoint, strings.Join(endpoints[:], ", "))
	}
	if r.opt.Endpoint != "" {
		r.kind.Store(&r.opt.Endpoint)
	}
	if opt.Label != "" {
		if r.out, err = strconv.Atoi(opt.Label); err != nil || r.out < 0 {
			return nil, fmt.Errorf("reward: output %q is not a number; a server names none", opt.Label)
		}
	}
	if r.opt.Concurrency <= 0 {
		r.opt.Concurrency = 16
	}
	if r.opt.Attempts <= 0 {
		r.opt.Attempts = 6
	}
	if r.opt.Timeout <= 0 {
		r.opt.Timeout = 2 * time.Minute
	}
	if r.opt.Backoff <= 0 {
		r.opt.Backoff = 500 * time.Millisecond
	}
	if r.opt.Client == nil {
		r.opt.Client = &http.Client{}
		if t, ok := http.DefaultTransport.(*http.Transport); ok {
			t = t.Clone()
			t.MaxIdleConnsPerHost = r.opt.Concurrency
			r.opt.Client.Transport = t
		}
	}
	return r, nil
}

func isEndpoint(s string) bool {
	for _, e := range endpoints {
		if s == e {
			return true
		}
	}
	return false
}

// safeURL is an address without what may be secret in it.
func safeURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "the given text"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// givenUp is how many items in a row may fail after all attempts, without one
// that succeeds, before the server counts as gone.
const givenUp = 8

// Score asks for the reward of each item.
func (r *Remote) Score(ctx context.Context, items []Item) ([]float64, error) {
	scores, errs := make([]float64, len(items)), make([]error, len(items))
	var failures atomic.Int64
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(r.opt.Concurrency)
	for i := range items {
		g.Go(func() error {
			if err := inner.Err(); err != nil {
				return err
			}
			s, err := r.one(inner, items[i])
			var fault *serverError
			switch {
			case err == nil:
				failures.Store(0)
				scores[i] = s
			case inner.Err() != nil:
				return inner.Err()
			case errors.As(err, &fault) && fault.everyone():
				return err
			case errors.As(err, &fault) && fault.again() && failures.Add(1) >= givenUp:
				return fmt.Errorf("the server seems to be gone: %w", err)
			default:
				errs[i] = err
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("reward: %w", err)
	}
	if flat(scores, errs, items) {
		return nil, errors.New("reward: the server gives every answer exactly the same probability; it applies softmax to a single output: use its endpoint /pooling, or a newer version")
	}
	return partial(scores, errs)
}

// flat reports whether several different answers all have the score 1 exactly,
// which is what softmax makes of one output.
func flat(scores []float64, errs []error, items []Item) bool {
	n, differ := 0, false
	for i, s := range scores {
		if errs[i] != nil {
			continue
		}
		if s != 1 && !math.IsInf(s, 1) {
			return false
		}
		n++
		differ = differ || items[i].Response != items[0].Response
	}
	return n > 1 && differ
}

// one scores an item.
func (r *Remote) one(ctx context.Context, it Item) (float64, error) {
	kind, err := r.endpoint(ctx, it)
	if err != nil {
		return 0, err
	}
	return r.ask(ctx, kind, it)
}

// endpoint is the endpoint to use. The first call finds it by asking for the
// score of its item.
func (r *Remote) endpoint(ctx context.Context, it Item) (string, error) {
	if k := r.kind.Load(); k != nil {
		return *k, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.kind.Load(); k != nil {
		return *k, nil
	}
	var reasons []string
	for _, kind := range endpoints {
		_, err := r.ask(ctx, kind, it)
		var fault *serverError
		if err == nil || errors.As(err, &fault) && fault.tooLong() {
			r.kind.Store(&kind)
			return kind, nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if !errors.As(err, &fault) {
			return "", err
		}
		if fault.again() || fault.status == http.StatusUnauthorized || fault.status == http.StatusForbidden {
			fault.fatal = true
			return "", err
		}
		reasons = append(reasons, err.Error())
	}
	return "", &serverError{fatal: true, status: http.StatusNotFound, text: "the server has no endpoint for rewards: " + strings.Join(reasons, "; ")}
}

// ask sends a request for an item to an endpoint and reads the answer.
func (r *Remote) ask(ctx context.Context, kind string, it Item) (float64, error) {
	body, err := r.request(ctx, kind, it)
	if err != nil {
		return 0, err
	}
	answer, err := r.send(ctx, kind, body)
	if err != nil {
		return 0, err
	}
	s, err := readScore(answer, r.out)
	if err != nil {
		return 0, fmt.Errorf("/%s: %w", kind, err)
	}
	if r.opt.Sigmoid {
		if !(s >= 0 && s <= 1) {
			return 0, fmt.Errorf("/%s: the output %v is no probability; the server applies no sigmoid", kind, s)
		}
		s = math.Log(s) - math.Log1p(-s)
	}
	return s, nil
}
