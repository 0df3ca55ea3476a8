package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"

	"expo/lm/generate"
)

// A promptRow is one line of --prompts: its fields as they stand, and what they
// ask for, or why that cannot be asked.
type promptRow struct {
	fields  map[string]json.RawMessage
	request generate.Request
}

// generateRows answers the rows of a file together and writes the answers in
// the order of the rows.
func (a *app) generateRows(ctx context.Context, f *generateFlags, e *loaded) error {
	rows, err := f.readRows(e)
	if err != nil {
		return err
	}
	if f.printPrompt {
		for _, row := range rows {
			_, text, err := e.Prompt(ctx, row.request)
			if err != nil {
				return err
			}
			if err := a.printText(text); err != nil {
				return err
			}
		}
		return nil
	}
	kept, err := a.openRows(f, rows)
	if err != nil {
		return err
	}
	defer kept.close()
	type result struct {
		generate.Response
		err error
	}
	todo := kept.todo(len(rows))
	answers := make([]chan result, len(todo))
	for i := range answers {
		answers[i] = make(chan result, 1)
	}
	failed := 0
	g, ctx := errgroup.WithContext(ctx)
	limit := make(chan struct{}, max(f.maxBatch, 16))
	g.Go(func() error {
		for i, row := range todo {
			select {
			case limit <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			g.Go(func() error {
				defer func() { <-limit }()
				resp, err := e.Generate(ctx, rows[row].request)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				answers[i] <- result{resp, err}
				return nil
			})
		}
		return nil
	})
	g.Go(func() error {
		for i, row := range todo {
			select {
			case r := <-answers[i]:
				var answer any = answerOf(r.Response, e.seconds)
				if r.err != nil {
					failed++
					answer = map[string]string{"error": r.err.Error()}
				}
				if err := kept.write(row, rows[row].fields, answer); err != nil {
					return err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if err := kept.mend(); err != nil {
		return err
	}
	if failed > 0 {
		return &incomplete{failed, len(rows), "rows have no answer", `see "error" in their rows; --truncate shortens prompts that are too long`}
	}
	return nil
}

func (f *generateFlags) readRows(e *loaded) ([]promptRow, error) {
	in, err := os.Open(f.prompts)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var rows []promptRow
	err = eachRow(in, func(n int, line []byte) error {
		var row promptRow
		err := json.Unmarshal(line, &row.fields)
		if err == nil {
			row.request, err = f.rowRequest(e, row.fields)
		}
		if err != nil {
			return fmt.Errorf("%s: line %d: %w", f.prompts, n, err)
		}
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

func (f *generateFlags) rowRequest(e *loaded, row map[string]json.RawMessage) (generate.Request, error) {
	r := f.request
	m, hasMessages := row["messages"]
	p, hasPrompt := row["prompt"]
	switch {
	case hasMessages && hasPrompt:
		return r, errors.New("has both prompt and messages")
	case hasMessages:
		if err := json.Unmarshal(m, &r.Messages); err != nil {
			return r, fmt.Errorf("messages: %w", err)
		}
		r.Messages = f.withSystem(r.Messages)
		return r, nil
	case !hasPrompt:
		return r, errors.New("has neither prompt nor messages")
	}
	var text string
	var ids []int
	if err := textOrIDs(p, &text, &ids); err != nil {
		return r, fmt.Errorf("prompt: %w", err)
	}
	if ids != nil {
		r.Tokens = ids
		return r, nil
	}
	return f.ask(e, text), nil
}
