package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"expo/lm/generate"
)

func (a *app) score() *cobra.Command {
	var f engineFlags
	cmd := &cobra.Command{
		Use:   "score MODEL < rows.jsonl",
		Short: "Log-likelihoods of continuations",
		Long: `Read rows {"prompt", "continuation"}, each a text or a list of token ids, from
standard input, and write {"logprob", "token_logprobs", "token_ids", "is_greedy"} in
their order. Where a text is split follows lm-evaluation-harness: spaces at the end
of the prompt belong to the continuation.
` + exitHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			cs, err := readContinuations(a.in)
			if err != nil {
				return err
			}
			e, rest, err := f.open(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer e.close()
			if len(rest) > 0 {
				return usagef("score reads its rows from standard input; unexpected %q", rest)
			}
			ls, err := e.Score(cmd.Context(), cs)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(a.out)
			enc := json.NewEncoder(out)
			for _, l := range ls {
				if err := enc.Encode(map[string]any{"logprob": l.Logprob, "token_logprobs": l.TokenLogprobs, "token_ids": l.TokenIDs, "is_greedy": l.IsGreedy}); err != nil {
					return err
				}
			}
			return out.Flush()
		},
	}
	f.add(cmd)
	return cmd
}

func readContinuations(in io.Reader) ([]generate.Continuation, error) {
	var cs []generate.Continuation
	err := eachRow(in, func(n int, line []byte) error {
		var row struct{ Prompt, Continuation json.RawMessage }
		if err := json.Unmarshal(line, &row); err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
		var c generate.Continuation
		if row.Prompt != nil {
			if err := textOrIDs(row.Prompt, &c.Context, &c.ContextTokens); err != nil {
				return fmt.Errorf("row %d: prompt: %w", n, err)
			}
		}
		if row.Continuation == nil {
			return fmt.Errorf("row %d: no continuation", n)
		}
		if err := textOrIDs(row.Continuation, &c.Text, &c.Tokens); err != nil {
			return fmt.Errorf("row %d: continuation: %w", n, err)
		}
		cs = append(cs, c)
		return nil
	})
	return cs, err
}

func textOrIDs(raw json.RawMessage, text *string, ids *[]int) error {
	if json.Unmarshal(raw, text) == nil {
		return nil
	}
	if json.Unmarshal(raw, ids) == nil && *ids != nil {
		return nil
	}
	return errors.New("neither a text nor a list of token ids")
}
