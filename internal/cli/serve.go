package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"expo/align/reward"
	"expo/lm/generate/local"
	"expo/serve"
)

type serveFlags struct {
	engineFlags
	listen      string
	apiKeyFile  string
	origins     []string
	cacheSize   string
	maxBody     string
	kvMemory    string
	kvBytes     int64
	limits      serve.Limits
	rewardModel string
	votes       string
	drain       time.Duration
}

// servedAlpha is where the dial of a pair stands unless --alpha says otherwise.
const servedAlpha = "0.3"

const defaultVotes = "votes.jsonl"

func (a *app) serve() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve MODEL | serve --sft MODEL --aligned MODEL [--alpha NUMBER]",
		Short: "OpenAI API and a web page, with α as a dial",
		Long: `Answer OpenAI's API (/v1/chat/completions, /v1/completions, /v1/models; streaming,
logprobs, n, seed, response_format with a JSON schema, tools, vLLM's extra fields) and
show a page on which to try the model. The first line on standard output is the address,
once it answers; ^C finishes what is under way and ends.

With a pair a request's model is sft, aligned, expo (at --alpha, 0.3 by default), or
expo@0.3 for any α. The two models are in memory once; others are mixed from them when
they are asked for, and kept up to --cache-size. The page shows all three side by side.

Answers take memory for keys and values as they grow, up to --kv-memory together; what
the beginnings of prompts share counts once. When it is full, answers wait in the order
in which they were asked for, and the one asked for last is computed again later.

Only this machine is listened to unless --listen says otherwise, which needs keys
(--api-key-file, one a line). Pages of other origins are refused unless --cors names
them. Logs have no texts unless -v is given.
` + exitHelp,
		Example: `  expo serve --sft SFT --aligned DPO --alpha 0.3
  expo serve model.gguf --listen 127.0.0.1:0
  curl http://127.0.0.1:8080/v1/chat/completions -d '{"model": "expo@0.5", "messages": [{"role": "user", "content": "Hi"}]}'`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runServe(cmd.Context(), &f, args) },
	}
	f.engineFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:8080", "`ADDRESS:PORT`; port 0 picks one that is free")
	fl.StringVar(&f.apiKeyFile, "api-key-file", "", "requests need one of the keys in this `FILE`, one a line; each is a client of its own")
	fl.StringArrayVar(&f.origins, "cors", nil, "let pages of this `ORIGIN`, such as https://example.org, use the API; * is all; repeatable")
	fl.StringVar(&f.cacheSize, "cache-size", "8GB", "memory for models mixed at other α, in bytes of weights; one is always kept")
	fl.StringVar(&f.kvMemory, "kv-memory", "", "memory for the keys and values of all answers under way, a `SIZE` such as 4GB (default: half of what is free)")
	fl.StringVar(&f.rewardModel, "reward", "", "show the reward of this `MODEL` beside each answer")
	fl.StringVar(&f.votes, "votes", defaultVotes, "append votes cast on the page to this `FILE`; empty: keep them in memory")
	fl.IntVar(&f.limits.Concurrent, "max-concurrent", 0, "answers computed at once over all models (default: --max-batch)")
	fl.IntVar(&f.limits.Queue, "max-queue", 0, "answers that wait; beyond it requests get status 429 (default 256)")
	fl.IntVar(&f.limits.Context, "max-context", 0, "tokens of prompt and answer together (default: what the model has)")
	fl.StringVar(&f.maxBody, "max-body", "4MB", "bytes of a request")
	fl.DurationVar(&f.drain, "drain", 30*time.Second, "how long requests under way may take after ^C")
	return cmd
}

func (a *app) runServe(ctx context.Context, f *serveFlags, args []string) error {
	opt, err := f.serveOptions()
	if err != nil {
		return err
	}
	if len(args) > 1 {
		return usagef("serve takes one MODEL, got %q", args)
	}
	level := slog.LevelInfo
	if a.quiet {
		level = slog.LevelError
	}
	opt.Log, opt.LogContent = slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level})), a.verbose
	if a.json {
		opt.Log = slog.New(slog.NewJSONHandler(a.err, &slog.HandlerOptions{Level: level}))
	}

	if f.votes != "" && f.aligned != "" {
		switch err := writable(f.votes); {
		case err == nil:
		case f.votes == defaultVotes:
			a.warn("votes are kept in memory alone: %s", message(err))
			f.votes = ""
		default:
			return fmt.Errorf("--votes: %w; name a file that can be written, or none to keep votes in memory", err)
		}
	}
	// The address is taken first: a port in use need not wait for a large model.
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --listen", err)
	}
	defer l.Close()
	start := time.Now()
	free := freeMemory()
	f.memory = local.NewMemory(0)
	done, err := f.openServed(ctx, &opt, args)
	if err != nil {
		return err
	}
	defer done()
	limit, err := f.limitMemory(&opt, free)
	if err != nil {
		return err
	}
	if f.rewardModel != "" {
		c, _, err := openModel(f.rewardModel)
		if err != nil {
			return err
		}
		defer c.Close()
		m, err := reward.Open(ctx, c, reward.Options{Jobs: f.jobs, Truncate: true})
		if err != nil {
			return err
		}
		defer m.Close()
		opt.Reward, opt.RewardName = m, filepath.Base(strings.TrimRight(f.rewardModel, "/"))
	}
	if f.votes != "" && opt.Pair != nil {
		v, err := serve.OpenVotes(f.votes)
		if err != nil {
			return err
		}
		defer v.Close()
		opt.Votes = v
	}
	s, err := serve.New(opt)
	if err != nil {
		return err
	}
	a.say("loaded in %.1f s", time.Since(start).Seconds())
	if a.say("%s", limit); a.json {
		opt.Log.Info(limit)
	}

	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, f.drain) }()
	url := "http://" + l.Addr().String()
	if a.json {
		// One line, which a program can wait for.
		err = json.NewEncoder(a.out).Encode(map[string]any{"url": url, "models": s.Models()})
	} else {
		_, err = fmt.Fprintln(a.out, url)
	}
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { a.say("finishing what is under way; ^C again ends at once") })
	return <-ended
}

// writable makes the directory of a file that will be appended to, and makes sure
// that it can be written; one that is not there is not left behind.
func writable(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	_, err := os.Lstat(path)
	there := err == nil
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil || there {
		return err
	}
	return os.Remove(path)
}

// serveOptions checks what is said about the network and limits.
func (f *serveFlags) serveOptions() (serve.Options, error) {
	opt := serve.Options{Limits: f.limits, Origins: f.origins}
	host, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		return opt, usagef("--listen %s: write ADDRESS:PORT, such as 127.0.0.1:8080", f.listen)
	}
	ip := net.ParseIP(host)
	local := host == "localhost" || ip != nil && ip.IsLoopback()
	if f.apiKeyFile != "" {
		b, err := os.ReadFile(f.apiKeyFile)
		if err != nil {
			return opt, err
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				opt.Keys = append(opt.Keys, line)
			}
		}
		if len(opt.Keys) == 0 {
			return opt, fmt.Errorf("%s has no key; write one a line", f.apiKeyFile)
		}
	}
	if !local && len(opt.Keys) == 0 {
		return opt, usagef("--listen %s is open to other machines, which needs keys: --api-key-file FILE", f.listen)
	}
	opt.LocalHost = local && len(opt.Keys) == 0
	if opt.Limits.Body, err = parseSize(f.maxBody); err != nil {
		return opt, usagef("--max-body: %w", err)
	}
	if f.kvMemory != "" {
		if f.kvBytes, err = parseSize(f.kvMemory); err != nil {
			return opt, usagef("--kv-memory: %w", err)
		}
	}
	if f.limits.Concurrent < 0 || f.limits.Queue < 0 || f.limits.Context < 0 || f.maxBatch < 0 {
		return opt, usagef("limits cannot be negative")
	}
	if f.maxBatch == 0 {
		f.maxBatch = max(f.limits.Concurrent, 16)
	}
	if f.limits.Concurrent == 0 {
		opt.Limits.Concurrent = f.maxBatch
	}
	return opt, nil
}
