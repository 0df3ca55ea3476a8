package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"expo/eval"
	"expo/weights/checkpoint"
)

// searchSettings are what the samples and the rows of a search depend on: what
// samples.jsonl has under settingsKey. Gates, the confidence and β are not among
// them: they judge samples that are there.
type searchSettings struct {
	Type   string                   `json:"type"` // "settings"
	Alphas []float64                `json:"alphas"`
	Values map[string]searchSetting `json:"values"` // by flag, those that apply
	Least  map[string]int           `json:"least"`  // those that may grow: so many rows, 0 for all; so many α
}

// A searchSetting is what a flag says.
type searchSetting struct {
	Value string `json:"value"`           // what is compared
	Shown string `json:"shown,omitempty"` // what is printed, where that is not the value
}

func settingsKey() string { return eval.Key("search settings") }

// settings gathers them, of models no more than their beginnings.
func (s *searchRun) settings() (*searchSettings, error) {
	f := s.flags
	r := s.request
	now := &searchSettings{Type: "settings", Alphas: s.alphas, Values: map[string]searchSetting{}, Least: map[string]int{"limit": f.limit}}
	set := func(flag string, value any) { now.Values[flag] = searchSetting{Value: fmt.Sprint(value)} }
	model := func(flag, name string, open func(string) (*checkpoint.Checkpoint, func(), error)) error {
		c, done, err := open(name)
		if err != nil {
			return err
		}
		defer done()
		sum, err := fingerprint(c)
		now.Values[flag] = searchSetting{sum, name}
		return err
	}
	if len(f.endpoints) == 0 {
		adapted := func(name string) (*checkpoint.Checkpoint, func(), error) {
			c, _, done, err := openAdapted(name)
			return c, done, err
		}
		for flag, name := range map[string]string{"sft": f.sft, "aligned": f.aligned} {
			if err := model(flag, name, adapted); err != nil {
				return nil, err
			}
		}
		set("rounding", f.rounding)
		set("dtype", strings.ToLower(f.dtype))
		set("quantize", strings.ToLower(f.quantize))
		set("extra-rows", f.policies.extraRows)
		set("missing", f.policies.missing)
		set("head", f.policies.head)
		now.template("chat-template", f.template)
	} else {
		set("endpoint", "servers")
		set("model", f.fleet.model)
	}
	set("raw", f.raw)
	set("system", f.system)
	if len(s.prompts) > 0 || slices.ContainsFunc(s.tasks, func(t searchTask) bool { return t.generated() }) {
		set("max-tokens", r.MaxTokens)
		set("stop", fmt.Sprintf("%q", r.Stop))
	}
	if len(s.prompts) > 0 {
		set("temperature", r.Temperature)
		set("top-p", r.TopP)
		set("top-k", r.TopK)
		set("presence-penalty", r.PresencePenalty)
		set("frequency-penalty", r.FrequencyPenalty)
		set("seed", s.seed)
		set("seeds", s.seeds)
		now.Least["widen"], now.Least["golden"] = f.widen, f.golden
		if len(s.pairs) > 0 {
			now.Least["confirm"] = f.confirm
		}
	}
	for flag, path := range map[string]string{"prompts": f.prompts, "pairs": f.pairs} {
		if path == "" {
			continue
		}
		sum, err := s.rowsDigest(flag, path)
		if err != nil {
			return nil, err
		}
		now.Values[flag] = searchSetting{sum, path}
	}
	switch j := &f.reward; {
	case j.model != "":
		plain := func(name string) (*checkpoint.Checkpoint, func(), error) {
			c, _, err := openModel(name)
			return c, func() { c.Close() }, err
		}
		if err := model("reward", j.model, plain); err != nil {
			return nil, err
		}
	case j.url != "" && j.name != "":
		set("reward-model", j.name)
	case j.url != "":
		set("reward-url", j.url)
	}
	if f.reward.given() {
		set("reward-label", f.reward.label)
		set("reward-sigmoid", f.reward.sigmoid)
		now.template("reward-chat-template", f.reward.template)
	}
	return now, nil
}

// rowsDigest sums up a file of prompts or pairs; of a pipe, which can be read once
// only, the rows that were in it.
func (s *searchRun) rowsDigest(flag, path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().IsRegular() {
		return digestOf(path)
	}
	var rows []any
	if flag == "prompts" {
		for i := range s.prompts {
			rows = append(rows, s.prompts[i].content())
		}
	} else {
		for i := range s.pairs {
			rows = append(rows, s.pairs[i].prompt.content(), s.pairs[i].chosen, s.pairs[i].rejected)
		}
	}
	return eval.Key(rows...), nil
}

// template sets a chat template: a name, or what a file holds.
func (now *searchSettings) template(flag, name string) {
	x := searchSetting{Value: name}
	if b, err := os.ReadFile(name); err == nil && name != "" {
		sum := sha256.Sum256(b)
		x = searchSetting{hex.EncodeToString(sum[:]), name}
	}
	now.Values[flag] = x
}

// unlike says, a phrase each, what keeps a search from going on with what an
// earlier one with these settings left. More of something is no other search:
// α, rows, a stage that was not there.
func (old *searchSettings) unlike(now *searchSettings) []string {
	var out []string
	for flag, was := range old.Values {
		is, ok := now.Values[flag]
		show := func(x searchSetting) string {
			if x.Shown != "" {
				return x.Shown
			}
			return strconv.Quote(x.Value)
		}
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("--%s %s, now left out", flag, show(was)))
		case is.Value == was.Value:
		case is.Shown != "" && is.Shown == was.Shown:
			out = append(out, fmt.Sprintf("--%s %s, which has changed", flag, was.Shown))
		default:
			out = append(out, fmt.Sprintf("--%s %s, now %s", flag, show(was), show(is)))
		}
	}
	_, asked := old.Values["prompts"]
	_, scanned := old.Values["pairs"]
	if pairs, ok := now.Values["pairs"]; ok && asked && !scanned {
		out = append(out, fmt.Sprintf("no --pairs, now %s, which would leave α out", pairs.Shown))
	}
	for flag, was := range old.Least {
		is, ok := now.Least[flag]
		fewer := ok && is < was
		if flag == "limit" { // 0 is all
			fewer = is != 0 && (was == 0 || is < was)
		}
		if fewer {
			out = append(out, fmt.Sprintf("--%s %d, now %d", flag, was, is))
		}
	}
	var gone []string
	for _, alpha := range old.Alphas {
		if !slices.Contains(now.Alphas, alpha) {
			gone = append(gone, shortFloat(alpha))
		}
	}
	if gone != nil {
		out = append(out, "α "+strings.Join(gone, ", ")+", now left out")
	}
	slices.Sort(out)
	return out
}

// begun compares the settings with those of the search that the output holds, if
// it holds one.
func (s *searchRun) begun() error {
	var err error
	if s.now, err = s.settings(); err != nil {
		return err
	}
	var old searchSettings
	found, err := s.log.Get(settingsKey(), &old)
	if err != nil || !found {
		return err
	}
	other := old.unlike(s.now)
	if len(other) > 0 && !s.flags.forced {
		return fmt.Errorf("%s holds a search with other settings (%s); give those to go on, choose another directory with -o, or use --force to replace %s",
			s.flags.output, strings.Join(other, "; "), filepath.Join(s.flags.output, "search.json"))
	}
	s.same = eval.Key(&old) == eval.Key(s.now)
	return nil
}

// begin records the settings, once models are open and samples will follow.
func (s *searchRun) begin() error {
	if s.same {
		return nil
	}
	return s.log.Append(settingsKey(), s.now)
}
