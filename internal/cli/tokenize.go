package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"expo/lm/chat"
	"expo/lm/tokenizer"
	"expo/weights/gguf"
)

type tokenizeFlags struct {
	decode, jsonl, noSpecial bool
	chatTemplate             string
}

func (a *app) tokenize() *cobra.Command {
	var f tokenizeFlags
	cmd := &cobra.Command{
		Use:   "tokenize MODEL [TEXT]",
		Short: "Turn text into token ids, and back with --decode",
		Long: `Print the token ids of a text (or of standard input) as a model's tokenizer makes
them; --decode turns ids into text. MODEL is a directory that holds at least a
tokenizer, a .gguf file, or a Hub reference in the local cache.

--jsonl works row by row: {"text"} or {"messages"} become {"ids", "text"}, where
text is what the chat template made; with --decode {"ids"} becomes {"text"}.
` + exitHelp,
		Example: `  expo tokenize out "Hello, world"
  expo tokenize out --decode 1 22172 29892
  expo tokenize out --jsonl < rows.jsonl`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("expo tokenize needs a MODEL")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runTokenize(cmd.Context(), &f, args[0], args[1:])
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.decode, "decode", false, "turn ids into text")
	fl.BoolVar(&f.jsonl, "jsonl", false, "read rows of JSON from standard input, write rows of JSON")
	fl.BoolVar(&f.noSpecial, "no-special", false, "add no BOS or EOS; with --decode leave special tokens out of the text")
	fl.StringVar(&f.chatTemplate, "chat-template", "", "a `FILE`, or one of "+strings.Join(chat.Names(), ", ")+", in place of the model's own (for messages)")
	return cmd
}

// A vocabulary is the tokenizer of a MODEL, which need not have weights, and
// its chat template.
type vocabulary struct {
	*tokenizer.Tokenizer
	own func() (*chat.Template, error)
}

func openVocabulary(model string) (*vocabulary, error) {
	if strings.HasSuffix(model, ".gguf") {
		file, err := os.Open(model)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		r, err := gguf.NewReader(file, info.Size())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", model, err)
		}
		t, err := tokenizer.FromGGUF(vocabOf(r.Metadata()))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", model, err)
		}
		return &vocabulary{t, func() (*chat.Template, error) { return ggufTemplate(r.Metadata()) }}, nil
	}
	dir, _, err := locate(model)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	files := os.DirFS(dir)
	t, err := tokenizer.Load(files)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", model, err)
	}
	return &vocabulary{t, func() (*chat.Template, error) { return chat.Load(files) }}, nil
}

func (a *app) runTokenize(ctx context.Context, f *tokenizeFlags, model string, args []string) error {
	v, err := openVocabulary(model)
	if err != nil {
		return err
	}
	t := v.Tokenizer
	if f.jsonl {
		if len(args) > 0 {
			return usagef("--jsonl reads its rows from standard input, not from arguments")
		}
		return a.tokenizeRows(ctx, f, v)
	}
	text := strings.Join(args, " ")
	if len(args) == 0 {
		b, err := io.ReadAll(a.in)
		if err != nil {
			return err
		}
		text = string(b)
	}
	if f.decode {
		ids, err := parseIDs(text)
		if err != nil {
			return err
		}
		if err := knownIDs(t, ids); err != nil {
			return err
		}
		return a.printText(t.Decode(ids, f.noSpecial))
	}
	ids := t.Encode(text, !f.noSpecial)
	if a.json {
		return a.printJSON(struct {
			IDs    []int    `json:"ids"`
			Pieces []string `json:"pieces"`
			Text   string   `json:"text"`
		}{notNil(ids), pieces(t, ids), text})
	}
	fields := make([]string, len(ids))
	for i, id := range ids {
		fields[i] = strconv.Itoa(id)
	}
	_, err = fmt.Fprintln(a.out, strings.Join(fields, " "))
	return err
}

func (a *app) printText(text string) error {
	if a.json {
		return a.printJSON(map[string]string{"text": text})
	}
	_, err := fmt.Fprintln(a.out, text)
	return err
}

func notNil(ids []int) []int {
	if ids == nil {
		return []int{}
	}
	return ids
}

// pieces are the tokens as text a person can read: single bytes as <0xNN>
// where the vocabulary writes raw ones.
func pieces(t *tokenizer.Tokenizer, ids []int) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		p, _ := t.Token(id)
		if !strings.Contains(strconv.Quote(p), `\x`) {
			out[i] = p
			continue
		}
		for j := range len(p) {
			out[i] += fmt.Sprintf("<0x%02X>", p[j])
		}
	}
	return out
}

// parseIDs reads numbers between white space, commas or brackets.
func parseIDs(text string) ([]int, error) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n,[]", r) })
	ids := make([]int, len(fields))
	for i, s := range fields {
		id, err := strconv.Atoi(s)
		if err != nil || id < 0 {
			return nil, fmt.Errorf("%q is not a token id", s)
		}
		ids[i] = id
	}
	return ids, nil
}

func knownIDs(t *tokenizer.Tokenizer, ids []int) error {
	for _, id := range ids {
		if _, ok := t.Token(id); !ok {
			return fmt.Errorf("the tokenizer has no id %d; its largest is %d", id, t.Size()-1)
		}
	}
	return nil
}

// tokenizeRow is a row of input.
type tokenizeRow struct {
	Text     *string        `json:"text"`
	Messages []chat.Message `json:"messages"`
	IDs      []int          `json:"ids"`
}

func (a *app) tokenizeRows(ctx context.Context, f *tokenizeFlags, v *vocabulary) error {
	var template *chat.Template
	out := bufio.NewWriter(a.out)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	err := eachRow(a.in, func(n int, line []byte) error {
		result, err := tokenizeRowOf(ctx, f, v, &template, line)
		if err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
		return enc.Encode(result)
	})
	// The rows before a bad one have been worked for.
	return cmp.Or(err, out.Flush())
}

func tokenizeRowOf(ctx context.Context, f *tokenizeFlags, v *vocabulary, template **chat.Template, line []byte) (any, error) {
	t := v.Tokenizer
	var row tokenizeRow
	if err := json.Unmarshal(line, &row); err != nil {
		return nil, err
	}
	if f.decode {
		if row.IDs == nil {
			return nil, errors.New("no ids")
		}
		if err := knownIDs(t, row.IDs); err != nil {
			return nil, err
		}
		return struct {
			Text string `json:"text"`
		}{t.Decode(row.IDs, f.noSpecial)}, nil
	}
	type encoded struct {
		IDs  []int  `json:"ids"`
		Text string `json:"text"`
	}
	switch {
	case row.Text != nil && row.Messages != nil:
		return nil, errors.New("has both text and messages")
	case row.Text != nil:
		return encoded{notNil(t.Encode(*row.Text, !f.noSpecial)), *row.Text}, nil
	case row.Messages == nil:
		return nil, errors.New("has neither text nor messages")
	}
	if *template == nil {
		var err error
		if *template, err = chatTemplate(f.chatTemplate, v.own); err != nil {
			return nil, err
		}
	}
	text, err := (*template).Render(ctx, row.Messages, chatOptions(t))
	if err != nil {
		return nil, err
	}
	// What the template made has all its special tokens already.
	return encoded{notNil(t.Encode(text, false)), text}, nil
}

// chatTemplate is the one asked for, by file or by name, or the model's own.
func chatTemplate(name string, own func() (*chat.Template, error)) (*chat.Template, error) {
	if name == "" {
		return own()
	}
	b, err := os.ReadFile(name)
	switch {
	case err == nil:
		return chat.Parse(string(b))
	case errors.Is(err, fs.ErrNotExist):
		return chat.Named(name)
	}
	return nil, err
}

func chatOptions(t *tokenizer.Tokenizer) chat.Options {
	piece := func(id int) string {
		if id < 0 {
			return ""
		}
		p, _ := t.Token(id)
		return p
	}
	return chat.Options{AddGenerationPrompt: true, BOS: piece(t.BOS()), EOS: piece(t.EOS()), PAD: piece(t.PAD()), UNK: piece(t.UNK())}
}
