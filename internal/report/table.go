package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Table is rows of values.
type Table struct {
	Title   string
	Columns []Column
	// Rows have a value for each column: string, bool, any integer, float64,
	// Value, or nil, which shows as a dash, as does NaN.
	Rows [][]any
	// Strong are the indices of rows to be set off.
	Strong []int
	Notes  []string
}

// Column is how the values of a column look.
type Column struct {
	Name string
	// Key is the name in JSON; Name if it is empty.
	Key string
	// Format is fmt's, for float64 and Value; "%.4g" if it is empty.
	Format string
	// Text aligns to the left, as strings are; numbers go to the right.
	Text bool
}

// Value is a number with its standard error; NaN if that is not known.
type Value struct{ X, SE float64 }

// cell is a value as text. It has no line breaks and nothing that would steer a
// terminal.
func (c Column) cell(v any) string {
	format := c.Format
	if format == "" {
		format = "%.4g"
	}
	switch v := v.(type) {
	case nil:
		return "–"
	case float64:
		if math.IsNaN(v) {
			return "–"
		}
		return minus(fmt.Sprintf(format, v))
	case Value:
		s := c.cell(v.X)
		if math.IsNaN(v.X) || math.IsNaN(v.SE) {
			return s
		}
		return s + " ± " + strings.TrimPrefix(fmt.Sprintf(format, v.SE), "+")
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case string:
		return plain(v)
	}
	return plain(fmt.Sprint(v))
}

// minus puts the sign for a number in place of a hyphen.
func minus(s string) string {
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		return "−" + rest
	}
	return s
}

// plain is a text on one line, with a mark for each character that is not
// printed.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '�'
		}
		return r
	}, s)
}

func (t *Table) cells(row []any) []string {
	out := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		if i < len(row) {
			out[i] = c.cell(row[i])
		}
	}
	return out
}

func (t *Table) strong(i int) bool {
	for _, s := range t.Strong {
		if s == i {
			return true
		}
	}
	return false
}

// WriteText writes the table for a terminal, without a frame. Rows that are set
// off have a star.
func (t *Table) WriteText(w io.Writer) error {
	tw := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Format.HeaderAlign = text.AlignDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	tw.SetStyle(style)
	var header table.Row
	var configs []table.ColumnConfig
	for i, c := range t.Columns {
		header = append(header, c.Name)
		if !c.Text {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	if len(t.Strong) > 0 {
		header = append(header, "")
	}
	tw.AppendHeader(header)
	tw.SetColumnConfigs(configs)
	for i, row := range t.Rows {
		var r table.Row
		for _, c := range t.cells(row) {
			r = append(r, c)
		}
		if len(t.Strong) > 0 {
			mark := ""
			if t.strong(i) {
				mark = "*"
			}
			r = append(r, mark)
		}
		tw.AppendRow(r)
	}
	var b bytes.Buffer
	if t.Title != "" {
		fmt.Fprintln(&b, plain(t.Title))
	}
	for line := range strings.Lines(tw.Render() + "\n") {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	for _, n := range t.Notes {
		fmt.Fprintln(&b, plain(n))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// WriteMarkdown writes the table as GitHub's Markdown has them.
func (t *Table) WriteMarkdown(w io.Writer) error {
	var b bytes.Buffer
	if t.Title != "" {
		fmt.Fprintf(&b, "### %s\n\n", markdown(t.Title))
	}
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	var names, rules []string
	for _, c := range t.Columns {
		names = append(names, markdown(c.Name))
		if c.Text {
			rules = append(rules, "---")
		} else {
			rules = append(rules, "---:")
		}
	}
	line(names)
	line(rules)
	for i, row := range t.Rows {
		cells := t.cells(row)
		for k := range cells {
			cells[k] = markdown(cells[k])
			if t.strong(i) && cells[k] != "" {
				cells[k] = "**" + cells[k] + "**"
			}
		}
		line(cells)
	}
	for _, n := range t.Notes {
		fmt.Fprintf(&b, "\n%s\n", markdown(n))
	}
	_, err := w.Write(b.Bytes())
	return err
}

var markdownEscapes = strings.NewReplacer(`\`, `\\`, "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "<", "&lt;", "[", `\[`)

func markdown(s string) string { return markdownEscapes.Replace(plain(s)) }

// WriteLaTeX writes a tabular with the rules of the package booktabs.
func (t *Table) WriteLaTeX(w io.Writer) error {
	var b bytes.Buffer
	spec := ""
	var names []string
	for _, c := range t.Columns {
		if c.Text {
			spec += "l"
		} else {
			spec += "r"
		}
		names = append(names, latex(c.Name))
	}
	if t.Title != "" {
		fmt.Fprintf(&b, "%% %s\n", plain(t.Title))
	}
	fmt.Fprintf(&b, "\\begin{tabular}{%s}\n\\toprule\n%s \\\\\n\\midrule\n", spec, strings.Join(names, " & "))
	for i, row := range t.Rows {
		cells := t.cells(row)
		for k := range cells {
			cells[k] = latex(cells[k])
			if t.strong(i) && cells[k] != "" {
				cells[k] = `\textbf{` + cells[k] + "}"
			}
		}
		fmt.Fprintf(&b, "%s \\\\\n", strings.Join(cells, " & "))
	}
	b.WriteString("\\bottomrule\n\\end{tabular}\n")
	for _, n := range t.Notes {
		fmt.Fprintf(&b, "%% %s\n", plain(n))
	}
	_, err := w.Write(b.Bytes())
	return err
}

var latexEscapes = strings.NewReplacer(
	`\`, `\textbackslash{}`, "{", `\{`, "}", `\}`, "&", `\&`, "%", `\%`, "$", `\$`, "#", `\#`, "_", `\_`,
	"~", `\textasciitilde{}`, "^", `\textasciicircum{}`, "−", "$-$", "±", `$\pm$`, "×", `$\times$`,
	"α", `$\alpha$`, "θ", `$\theta$`, "Δ", `$\Delta$`, "–", "--", "†", `\dag{}`, "‡", `\ddag{}`, "§", `\S{}`, "≤", `$\le$`, "≥", `$\ge$`, "→", `$\to$`)

func latex(s string) string { return latexEscapes.Replace(plain(s)) }

// MarshalJSON makes a list of objects; a Value is a member with its number, and
// one with _se appended to its name.
func (t *Table) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, row := range t.Rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('{')
		first := true
		add := func(key string, v any) error {
			if f, ok := v.(float64); ok && f-f != 0 {
				v = nil
			}
			kb, err := json.Marshal(key)
			if err != nil {
				return err
			}
			vb, err := json.Marshal(v)
			if err != nil {
				return fmt.Errorf("report: column %s: %w", key, err)
			}
			if !first {
				b.WriteByte(',')
			}
			first = false
			b.Write(kb)
			b.WriteByte(':')
			b.Write(vb)
			return nil
		}
		for k, c := range t.Columns {
			key := c.Key
			if key == "" {
				key = c.Name
			}
			var v any
			if k < len(row) {
				v = row[k]
			}
			var err error
			if pair, ok := v.(Value); ok {
				if err = add(key, pair.X); err == nil {
					err = add(key+"_se", pair.SE)
				}
			} else {
				err = add(key, v)
			}
			if err != nil {
				return nil, err
			}
		}
		b.WriteByte('}')
	}
	b.WriteByte(']')
	return b.Bytes(), nil
}
