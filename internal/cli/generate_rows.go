package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	out, done, err := a.openRows(f.output, f.prompts, rows)
	if err != nil {
		return err
	}
	defer out.Close()
	if done > 0 {
		a.say("%d of %d rows were finished before", done, len(rows))
	}
	type result struct {
		generate.Response
		err error
	}
	answers := make([]chan result, len(rows))
	for i := range answers {
		answers[i] = make(chan result, 1)
	}
	failed := 0
	g, ctx := errgroup.WithContext(ctx)
	limit := make(chan struct{}, max(f.maxBatch, 16))
	g.Go(func() error {
		for i := done; i < len(rows); i++ {
			select {
			case limit <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			g.Go(func() error {
				defer func() { <-limit }()
				resp, err := e.Generate(ctx, rows[i].request)
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
		for i := done; i < len(rows); i++ {
			select {
			case r := <-answers[i]:
				var answer any = answerOf(r.Response, e.seconds)
				if r.err != nil {
					failed++
					answer = map[string]string{"error": r.err.Error()}
				}
				if err := writeRow(out, rows[i].fields, answer); err != nil {
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

// openRows opens the output and counts its complete rows, which must be answers
// to the first rows of the input; a last line that was cut short is taken off.
func (a *app) openRows(path, prompts string, rows []promptRow) (out io.WriteCloser, done int, err error) {
	if path == "" {
		return nopCloser{a.out}, 0, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	whole := 0
	b, err := io.ReadAll(file)
	if err != nil {
		return nil, 0, err
	}
	for {
		n := bytes.IndexByte(b[whole:], '\n') + 1
		if n == 0 {
			break
		}
		var finished map[string]json.RawMessage
		if done == len(rows) || json.Unmarshal(b[whole:whole+n], &finished) != nil || !sameQuestion(finished, rows[done].fields) {
			return nil, 0, fmt.Errorf("%s: line %d is not an answer to row %d of %s; move the file away, or give another with -o", path, done+1, done+1, prompts)
		}
		whole += n
		done++
	}
	if err := file.Truncate(int64(whole)); err != nil {
		return nil, 0, err
	}
	if _, err := file.Seek(int64(whole), io.SeekStart); err != nil {
		return nil, 0, err
	}
	return file, done, nil
}

// sameQuestion compares what a row of the output and one of the input ask.
func sameQuestion(a, b map[string]json.RawMessage) bool {
	for _, key := range []string{"prompt", "messages"} {
		var x, y bytes.Buffer
		_, inA := a[key]
		_, inB := b[key]
		if inA != inB || inA && (json.Compact(&x, a[key]) != nil || json.Compact(&y, b[key]) != nil || !bytes.Equal(x.Bytes(), y.Bytes())) {
			return false
		}
	}
	return true
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// writeRow adds the answer's fields to the row's own.
func writeRow(w io.Writer, row map[string]json.RawMessage, answer any) error {
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	merged := make(map[string]json.RawMessage, len(row))
	for k, v := range row {
		merged[k] = v
	}
	if err := json.Unmarshal(b, &merged); err != nil {
		return err
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(merged); err != nil {
		return err
	}
	_, err = w.Write(line.Bytes())
	return err
}
