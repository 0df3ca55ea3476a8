package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"expo/lm/generate"
	"expo/lm/generate/openai"
)

// openAI is where a model that is named without a server is asked for.
const openAI = "https://api.openai.com/v1"

// fleetFlags say which servers answer. The flags of a command that has two
// fleets begin with what each is for, as in --judge-base-url.
type fleetFlags struct {
	prefix     string // "" or "judge-"
	baseURLs   []string
	model      string
	apiKeyFile string
	dialect    string
	jobs       int
	timeout    time.Duration
	attempts   int
	retryWait  time.Duration
	omit       []string
	extra      string
}

// add defines the flags. A command that has --jobs already sets f.jobs itself.
func (f *fleetFlags) add(cmd *cobra.Command, prefix, who string) {
	f.prefix = prefix
	fl := cmd.Flags()
	fl.StringArrayVar(&f.baseURLs, prefix+"base-url", nil, who+" is asked at this `URL` of an OpenAI-compatible server, as http://localhost:8000/v1; repeatable, several share the work (default: OPENAI_BASE_URL, or OpenAI itself)")
	fl.StringVar(&f.model, prefix+"model", "", "the `NAME` that the servers know "+who+" by (default: their only one)")
	fl.StringVar(&f.apiKeyFile, prefix+"api-key-file", "", "the key is in this `FILE` (default: OPENAI_API_KEY)")
	fl.StringVar(&f.dialect, prefix+"dialect", "auto", "fields that the servers know beyond OpenAI's: `auto|openai|vllm|sglang|llama.cpp|ollama`")
	fl.DurationVar(&f.timeout, prefix+"timeout", 10*time.Minute, "give a request up, and try again, after this time")
	fl.IntVar(&f.attempts, prefix+"attempts", 8, "send a request this often before it has failed")
	fl.DurationVar(&f.retryWait, prefix+"retry-wait", time.Second, "wait about this long after a first failure, and twice as long after each further one")
	fl.StringSliceVar(&f.omit, prefix+"omit", nil, "never send this `FIELD`, as temperature to models that refuse it")
	fl.StringVar(&f.extra, prefix+"extra-body", "", "send these fields too, a `JSON` object")
	switch jobs := fl.Lookup("jobs"); {
	case jobs == nil:
		fl.IntVar(&f.jobs, prefix+"jobs", 0, "requests to "+who+" at once (default 16)")
	case prefix == "":
		jobs.Usage = "threads of a model in this process, and requests to servers at once (default: the number of cores, and 16)"
	default:
		fl.IntVar(&f.jobs, prefix+"jobs", 0, "requests to "+who+"'s servers at once (default: as --jobs, or 16)")
	}
}

// given reports whether the flags name a server or a model.
func (f *fleetFlags) given() bool { return len(f.baseURLs) > 0 || f.model != "" }

// spendFlags bound what all the fleets of a command may spend together.
type spendFlags struct {
	maxCost amount
	prices  string
	yes     bool
	budget  *openai.Budget // made when the first fleet needs it
}

// amount is a limit on what is spent. The zero value is none; one of 0 allows
// nothing that costs anything.
type amount struct {
	limit float64
	given bool
}

func (x *amount) String() string {
	if !x.given {
		return ""
	}
	return strconv.FormatFloat(x.limit, 'g', -1, 64)
}

// Set reads the limit.
func (x *amount) Set(s string) error {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0) || math.IsInf(v, 0) {
		return errors.New("use a number of 0 or more")
	}
	x.limit, x.given = v, true
	return nil
}

func (x *amount) Type() string { return "amount" }

func (f *spendFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.Var(&f.maxCost, "max-cost", "stop before more than this `AMOUNT` is spent, in the currency of the prices; 0 allows what is free (default: no limit)")
	fl.StringVar(&f.prices, "prices", "", `prices per million tokens, a JSON `+"`FILE`"+` {"MODEL": {"input": 2.5, "output": 10}} (default: OpenAI's list prices, in dollars)`)
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask before spending")
}

// servers is a fleet that is ready to be asked.
type servers struct {
	*openai.Fleet
	model  string
	price  openai.Price
	priced bool // the price is known
}

// open makes the fleet, and finds out the model's name if it is not given.
func (f *fleetFlags) open(ctx context.Context, a *app, spend *spendFlags) (*servers, error) {
	opt, err := f.options(a)
	if err != nil {
		return nil, err
	}
	s := &servers{model: f.model}
	if s.model == "" {
		probe, err := openai.New(opt)
		if err != nil {
			return nil, usageError{err}
		}
		names, err := probe.Models(ctx)
		if err != nil {
			return nil, err
		}
		if len(names) != 1 {
			return nil, usagef("the server has %d models; choose one with --%smodel", len(names), f.prefix)
		}
		s.model = names[0]
		opt.Model = s.model
	}
	if s.price, s.priced, err = spend.priceOf(s.model, opt.BaseURLs); err != nil {
		return nil, err
	}
	opt.Price = s.price
	if spend.maxCost.given {
		if !s.priced {
			return nil, usagef("--max-cost needs the price of %s: give it with --prices FILE", s.model)
		}
		if spend.budget == nil {
			spend.budget = openai.NewBudget(spend.maxCost.limit)
		}
		opt.Budget = spend.budget
	}
	if s.Fleet, err = openai.New(opt); err != nil {
		return nil, usageError{err}
	}
	return s, nil
}

func (f *fleetFlags) options(a *app) (openai.Options, error) {
	opt := openai.Options{BaseURLs: f.baseURLs, Model: f.model, Jobs: f.jobs, Timeout: f.timeout, Attempts: f.attempts, Backoff: f.retryWait, Omit: f.omit}
	if len(opt.BaseURLs) == 0 {
		opt.BaseURLs = []string{openAI}
		if u := os.Getenv("OPENAI_BASE_URL"); u != "" {
			opt.BaseURLs = []string{u}
		}
	}
	var err error
	if opt.Dialect, err = openai.ParseDialect(f.dialect); err != nil {
		return opt, usageError{err}
	}
	if f.extra != "" {
		if err := json.Unmarshal([]byte(f.extra), &opt.Extra); err != nil {
			return opt, usagef("--%sextra-body: want a JSON object: %v", f.prefix, err)
		}
	}
	if opt.APIKey, err = f.key(a, opt.BaseURLs); err != nil {
		return opt, err
	}
	var mu sync.Mutex
	given := map[string]bool{} // up; a fleet that is asked for its model comes before the one that works
	opt.OnGiveUp = func(err *openai.Error) {
		mu.Lock()
		defer mu.Unlock()
		if !given[err.Server] {
			given[err.Server] = true
			a.warn("this server is asked no more, and the others do its work: %s", message(err))
		}
	}
	if a.verbose {
		opt.OnRetry = func(err error, wait time.Duration) {
			a.say("%s; trying again in %v", message(err), wait.Round(time.Millisecond))
		}
	}
	return opt, nil
}

// key is the API key: that of the file, or of the environment. The latter does
// not travel in clear text to other machines.
func (f *fleetFlags) key(a *app, urls []string) (string, error) {
	if f.apiKeyFile != "" {
		b, err := os.ReadFile(f.apiKeyFile)
		if err != nil {
			return "", err
		}
		key := strings.TrimSpace(string(b))
		if key == "" || strings.ContainsAny(key, " \t\r\n") {
			return "", fmt.Errorf("%s: want one key and nothing else", f.apiKeyFile)
		}
		return key, nil
	}
	key := strings.TrimSpace(os.Getenv("OPENAI_API_KEY"))
	if key == "" {
		return "", nil
	}
	for _, s := range urls {
		if u, err := url.Parse(s); err != nil || u.Scheme != "https" && !loopback(u) {
			a.warn("OPENAI_API_KEY is not sent to %s, which is reached without encryption; --%sapi-key-file FILE sends a key", redacted(u), f.prefix)
			return "", nil
		}
	}
	return key, nil
}

func redacted(u *url.URL) string {
	if u == nil {
		return "a server"
	}
	return u.Redacted()
}

func loopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// priceOf is a model's price: free on this machine, unless the user's table
// says otherwise.
func (f *spendFlags) priceOf(model string, urls []string) (openai.Price, bool, error) {
	if f.prices != "" {
		b, err := os.ReadFile(f.prices)
		if err != nil {
			return openai.Price{}, false, err
		}
		table, err := openai.ParsePrices(b)
		if err != nil {
			return openai.Price{}, false, fmt.Errorf("%s: %w", f.prices, err)
		}
		if p, ok := openai.PriceOf(table, model); ok {
			return p, true, nil
		}
	}
	here := true
	for _, s := range urls {
		u, err := url.Parse(s)
		here = here && err == nil && loopback(u)
	}
	if here {
		return openai.Price{}, true, nil
	}
	p, ok := openai.PriceOf(openai.ListPrices(), model)
	return p, ok, nil
}

// estimate is what a stage of a command would ask of its fleet.
type estimate struct {
	what string // as "answers"
	openai.Estimate
	model  string
	priced bool
	local  bool // in this process: nothing is sent or spent
}

// estimate of requests to the fleet.
func (s *servers) estimate(what string, rs []generate.Request) estimate {
	return estimate{what: what, Estimate: s.price.Estimate(rs...), model: s.model, priced: s.priced}
}

// agree says what is going to be spent and asks whether it may be, where
// someone sits at a terminal. Nothing is asked if nothing costs anything.
func (a *app) agree(spend *spendFlags, list ...estimate) error {
	total := 0.0
	for _, e := range list {
		if e.Requests == 0 || e.local {
			continue
		}
		total += e.Cost
		cost := fmt.Sprintf("at most about %.2f", e.Cost)
		if !e.priced {
			cost = "at a price that is not known (--prices FILE tells it)"
		} else if e.Cost == 0 {
			cost = "for free"
		}
		a.say("%s: %d requests to %s, %s", e.what, e.Requests, e.model, cost)
	}
	if spend.maxCost.given && spend.maxCost.limit == 0 && total > 0 {
		return fmt.Errorf("--max-cost 0 allows nothing that costs, and this could cost %.4g: %w", total, openai.ErrBudget)
	}
	in, ok := a.in.(*os.File)
	if total == 0 || spend.yes || !a.terminal || !ok || !term.IsTerminal(int(in.Fd())) {
		return nil
	}
	if spend.maxCost.given {
		total = min(total, spend.maxCost.limit)
	}
	fmt.Fprintf(a.err, "expo: spend up to %.2f? [y/N] ", total)
	line, _ := bufio.NewReader(a.in).ReadString('\n')
	if s := strings.ToLower(strings.TrimSpace(line)); s != "y" && s != "yes" {
		return errors.New("nothing was spent; --yes does not ask")
	}
	return nil
}
