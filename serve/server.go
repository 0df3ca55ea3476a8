package serve

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"expo/align/reward"
	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/generate/local"
)

// Options say what is served, and to whom. Either Engine and Name or Pair is
// given.
type Options struct {
	Name   string // of the one model, as requests call it
	Engine *local.Engine
	Pair   *Pair

	// Reward scores answers for the page, which calls it RewardName. Nil: no
	// rewards.
	Reward     reward.Scorer
	RewardName string

	Limits Limits
	Keys   []string // a request has one of them as bearer token; none: all may ask
	// Origins are web origins, such as https://example.org, whose pages may
	// use the API; "*" is all. The page served here always may.
	Origins []string
	// LocalHost refuses requests whose Host header does not name this machine,
	// so that no page from elsewhere reaches it by a name that it controls.
	LocalHost bool

	Votes *Votes // where votes go; nil: in memory

	Log        *slog.Logger // a line for each request; nil: none
	LogContent bool         // with what was asked and answered
}

// Limits keep a server within its machine. Each has a default for 0.
type Limits struct {
	Body       int64 // bytes of a request, 4 MiB
	Context    int   // tokens of prompt and answer together; what the model has
	Concurrent int   // answers computed at once, over all models, 16
	Queue      int   // answers that wait, 256
}

func (l *Limits) fill() {
	if l.Body <= 0 {
		l.Body = 4 << 20
	}
	if l.Concurrent <= 0 {
		l.Concurrent = 16
	}
	if l.Queue <= 0 {
		l.Queue = 256
	}
}

// Server is an http.Handler. Close it when nobody uses it any more.
type Server struct {
	name        string
	engine      *local.Engine
	pair        *Pair
	reward      reward.Scorer
	rewardName  string
	limits      Limits
	keys        [][sha256.Size]byte
	origins     []string
	localHost   bool
	votes       *Votes
	log         *slog.Logger
	logContent  bool
	fingerprint string
	created     int64

	scheduler *scheduler
	metrics   *metrics
	handler   http.Handler
	rewarding sync.Mutex // one score at a time
	inFlight  sync.WaitGroup
}

// New makes a server.
func New(opt Options) (*Server, error) {
	if (opt.Engine == nil) == (opt.Pair == nil) {
		return nil, errors.New("serve: either a model or a pair is needed")
	}
	if opt.Engine != nil && opt.Name == "" {
		return nil, errors.New("serve: the model needs a name")
	}
	opt.Limits.fill()
	s := &Server{
		name: opt.Name, engine: opt.Engine, pair: opt.Pair,
		reward: opt.Reward, rewardName: opt.RewardName, limits: opt.Limits,
		origins: opt.Origins, localHost: opt.LocalHost, votes: opt.Votes,
		log: opt.Log, logContent: opt.LogContent,
		fingerprint: "expo-" + random(4), created: time.Now().Unix(),
		scheduler: newScheduler(opt.Limits), metrics: newMetrics(),
	}
	for _, k := range opt.Keys {
		if k == "" {
			return nil, errors.New("serve: an API key is empty")
		}
		s.keys = append(s.keys, sha256.Sum256([]byte(k)))
	}
	if s.votes == nil {
		s.votes = &Votes{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if p := s.pair; p != nil {
		if p.SFT == nil || p.Aligned == nil || p.Mix == nil {
			return nil, errors.New("serve: a pair needs both models and Mix")
		}
		s.scheduler.pin(modelName{name: nameSFT}, p.SFT)
		s.scheduler.pin(modelName{name: nameAligned}, p.Aligned)
		s.scheduler.mix, s.scheduler.cacheBytes = p.Mix, p.CacheBytes
		s.scheduler.remixed = func(d time.Duration) { s.metrics.remix.observe(d.Seconds()) }
	} else {
		s.scheduler.pin(modelName{name: s.name}, s.engine)
	}
	s.handler = s.guard(s.routes())
	return s, nil
}

// routes is the table of what can be asked for.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.chatCompletions)
	mux.HandleFunc("POST /v1/completions", s.completions)
	mux.HandleFunc("GET /v1/models", s.listModels)
	mux.HandleFunc("GET /v1/models/{model...}", s.oneModel)
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /metrics", s.showMetrics)
	mux.HandleFunc("GET /api/info", s.info)
	mux.HandleFunc("POST /api/compare", s.compare)
	mux.HandleFunc("POST /api/reward", s.score)
	mux.HandleFunc("GET /api/votes", s.showVotes)
	mux.HandleFunc("POST /api/votes", s.vote)
	mux.HandleFunc("GET /api/votes.jsonl", s.downloadVotes)
	mux.HandleFunc("/v1/", s.noEndpoint)
	mux.HandleFunc("/api/", s.noEndpoint)
	mux.Handle("/", page())
	return mux
}

// noEndpoint answers, as everything below these paths does, with JSON.
func (s *Server) noEndpoint(w http.ResponseWriter, r *http.Request) {
	s.fail(w, &apiError{status: http.StatusNotFound, code: "not_found", message: "there is no " + r.Method + " " + r.URL.Path + " here"})
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Close gives back the models that were made here. No request may be under
// way.
func (s *Server) Close() { s.scheduler.close() }

// modelCard is a model as /v1/models lists it.
type modelCard struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	Context int    `json:"max_model_len"`
}

func (s *Server) card(id string, name modelName) modelCard {
	ref := s.reference(name)
	n := s.context(ref)
	if c := ref.Capacity(); c > 0 {
		n = min(n, c)
	}
	return modelCard{ID: id, Object: "model", Created: s.created, OwnedBy: "expo", Context: n}
}

// context is the most tokens of prompt and answer together, if there is memory.
func (s *Server) context(e *local.Engine) int {
	n := e.ContextLength()
	if s.limits.Context > 0 {
		n = min(n, s.limits.Context)
	}
	return n
}

// Models lists what requests can name as their model.
func (s *Server) Models() []string {
	var list []string
	for _, n := range s.names() {
		list = append(list, n.name)
	}
	return list
}

func (s *Server) listModels(w http.ResponseWriter, r *http.Request) {
	var list []modelCard
	for _, n := range s.names() {
		id := n.name
		list = append(list, s.card(id, n))
		if n.name == nameExPO && s.pair != nil {
			list = append(list, s.card(n.String(), n))
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

func (s *Server) oneModel(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("model")
	name, err := s.parseName(id)
	if err != nil {
		s.fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, s.card(id, name))
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	l := s.scheduler.load()
	status, word := http.StatusOK, "ok"
	if l.closing {
		status, word = http.StatusServiceUnavailable, "shutting down"
	}
	writeJSON(w, status, map[string]any{"status": word, "running": l.active, "waiting": l.waiting, "models": l.models})
}

// info is what the page wants to know at first.
func (s *Server) info(w http.ResponseWriter, r *http.Request) {
	type model struct {
		Name    string `json:"name"`
		Chat    bool   `json:"chat"`
		Context int    `json:"context"`
	}
	doc := struct {
		Pair   bool    `json:"pair"`
		Alpha  float64 `json:"alpha"`
		Models []model `json:"models"`
		Reward string  `json:"reward"`
		Votes  string  `json:"votes"`
		Max    float64 `json:"max_alpha"`
	}{Pair: s.pair != nil, Reward: s.rewardName, Votes: s.votes.Name(), Max: maxAlpha}
	if s.pair != nil {
		doc.Alpha = s.pair.Alpha
	}
	for _, n := range s.names() {
		doc.Models = append(doc.Models, model{n.name, s.reference(n).Template() != nil, s.card("", n).Context})
	}
	writeJSON(w, http.StatusOK, doc)
}

// newID is a name that no other answer has.
func newID(prefix string) string { return prefix + random(12) }

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// compare is POST /api/compare: how probable the tokens of an answer are to
// each of some models.
func (s *Server) compare(w http.ResponseWriter, r *http.Request) {
	var q struct {
		body
		TokenIDs []int    `json:"token_ids"`
		Models   []string `json:"models"`
	}
	if err := decode(r, &q); err != nil {
		s.fail(w, err)
		return
	}
	e := entryOf(w)
	name, err := s.parseName(q.Model)
	if err == nil && (len(q.TokenIDs) == 0 || len(q.Models) == 0 || len(q.Models) > 8) {
		err = badField("token_ids", "token_ids of an answer, and 1 to 8 models, are needed")
	}
	if err != nil {
		s.fail(w, err)
		return
	}
	e.model = name
	req := generate.Request{Messages: q.Messages}
	if len(q.Messages) == 0 {
		var rs []generate.Request
		if rs, err = q.prompts(req); err == nil {
			req = rs[0]
		}
	}
	req.MaxTokens = len(q.TokenIDs)
	var qs []question
	if err == nil {
		qs, err = s.prepare(r.Context(), &q.body, name, []generate.Request{req})
	}
	if err == nil && qs[0].request.MaxTokens < len(q.TokenIDs) {
		err = badField("token_ids", "prompt and answer are longer than the context")
	}
	names := make([]modelName, len(q.Models))
	for i, m := range q.Models {
		if err == nil {
			names[i], err = s.parseName(m)
		}
	}
	if err != nil {
		s.fail(w, err)
		return
	}
	c := []generate.Continuation{{ContextTokens: qs[0].request.Tokens, Tokens: q.TokenIDs}}
	logprobs := make([][]float64, len(names))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			errs[i] = s.withEngine(r.Context(), e.client, name, func(engine *local.Engine) error {
				ls, err := engine.Score(r.Context(), c)
				if err == nil {
					logprobs[i] = ls[0].TokenLogprobs
				}
				return err
			})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		s.fail(w, errs[firstError(errs)])
		return
	}
	byName := make(map[string][]float64, len(names))
	for i := range names {
		byName[q.Models[i]] = logprobs[i]
	}
	prompt := qs[0].request.Tokens
	if qs[0].request.NewText {
		prompt = nil
	}
	texts := s.reference(name).AnswerPieces(prompt, q.TokenIDs)
	writeJSON(w, http.StatusOK, map[string]any{"tokens": texts, "logprobs": byName})
}

func firstError(errs []error) int {
	for i, err := range errs {
		if err != nil {
			return i
		}
	}
	return -1
}

// withEngine calls f with a model once it is the client's turn.
func (s *Server) withEngine(ctx context.Context, client string, name modelName, f func(*local.Engine) error) error {
	ts, err := s.scheduler.enqueue(client, name, 1)
	if err != nil {
		return err
	}
	defer s.scheduler.release(ts[0])
	engine, err := s.scheduler.wait(ctx, ts[0])
	if err != nil {
		return err
	}
	return f(engine)
}

// score is POST /api/reward.
func (s *Server) score(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Messages []chat.Message `json:"messages"`
		Prompt   string         `json:"prompt"`
		Response string         `json:"response"`
		Ended    bool           `json:"ended"`
		// Reference is what a preference model compares the response with.
		Reference string `json:"reference"`
	}
	if err := decode(r, &q); err != nil {
		s.fail(w, err)
		return
	}
	if s.reward == nil {
		s.fail(w, &apiError{status: http.StatusNotFound, code: "no_reward_model", message: "no reward model is loaded; start the server with --reward"})
		return
	}
	s.rewarding.Lock()
	defer s.rewarding.Unlock()
	x, err := s.reward.Score(r.Context(), []reward.Item{{Messages: q.Messages, Prompt: q.Prompt, Response: q.Response, Ended: q.Ended, Reference: q.Reference}})
	if err != nil {
		s.fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"reward": x[0], "model": s.rewardName})
}
