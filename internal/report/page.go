package report

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
)

// Page is an HTML page.
type Page struct {
	Title string
	Lead  []string // paragraphs at the top
	Facts []Fact   // figures in large type
	// Sections follow one another.
	Sections []Section
	Footer   string
}

// Fact is a figure with a word about it.
type Fact struct{ Name, Value, Note string }

// Section is a part of a page; what is empty is left out. It shows text, plots,
// tables, cards, in this order.
type Section struct {
	Heading string
	Text    []string
	Plots   []Plot
	Tables  []*Table
	Cards   [][]Card // rows of texts side by side
}

// Card is a text in a frame, such as a model's answer. Line breaks are kept.
type Card struct{ Title, Note, Body string }

// WriteHTML writes the page.
func (p *Page) WriteHTML(w io.Writer) error {
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// The sizes in which a page has its plots, for wide and for narrow windows.
const (
	wideWidth, wideHeight     = 720, 400
	narrowWidth, narrowHeight = 360, 320
)

func plots(p Plot) template.HTML {
	return template.HTML(`<figure><div class="wide">` + p.Figure(wideWidth, wideHeight).inline() +
		`</div><div class="narrow">` + p.Figure(narrowWidth, narrowHeight).inline() + `</div></figure>`)
}

// colors defines the inks as CSS variables.
func colors(of map[ink][3]uint8) template.CSS {
	var names []string
	for c := range of {
		names = append(names, string(c))
	}
	slices.Sort(names)
	var b strings.Builder
	for _, n := range names {
		rgb := of[ink(n)]
		fmt.Fprintf(&b, "--%s:#%02x%02x%02x;", n, rgb[0], rgb[1], rgb[2])
	}
	return template.CSS(b.String())
}

// htmlCell is a cell of a table on a page.
type htmlCell struct {
	Text string
	Left bool
}

func (t *Table) htmlHead() []htmlCell {
	var out []htmlCell
	for _, c := range t.Columns {
		out = append(out, htmlCell{plain(c.Name), c.Text})
	}
	return out
}

type htmlRow struct {
	Strong bool
	Cells  []htmlCell
}

func (t *Table) htmlRows() []htmlRow {
	var out []htmlRow
	for i, row := range t.Rows {
		r := htmlRow{Strong: t.strong(i)}
		for k, c := range t.cells(row) {
			r.Cells = append(r.Cells, htmlCell{c, t.Columns[k].Text})
		}
		out = append(out, r)
	}
	return out
}

// pageTemplate is fixed text; parsing it cannot fail.
var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"plot":  plots,
	"light": func() template.CSS { return colors(light) },
	"dark":  func() template.CSS { return colors(dark) },
	"head":  (*Table).htmlHead,
	"rows":  (*Table).htmlRows,
}).Parse(pageHTML))

const pageHTML = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{.Title}}</title>
<style>
:root{color-scheme:light dark;{{light}}}
@media (prefers-color-scheme:dark){:root{ {{dark}}}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1040px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .5rem;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:2.4rem 0 .6rem;padding-top:1.2rem;border-top:1px solid var(--grid)}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
p{margin:.4rem 0;max-width:44rem;overflow-wrap:anywhere}
.lead{font-size:1.05rem}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:1.4rem 0}
.fact{border:1px solid var(--grid);border-radius:10px;padding:12px 14px}
.fact .name{color:var(--muted);font-size:.85rem}
.fact .value{font-size:1.5rem;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}
.fact .note{color:var(--muted);font-size:.85rem}
figure{margin:1.1rem 0}
figure svg{display:block;width:100%;height:auto;max-width:820px}
.narrow{display:none}
@media (max-width:600px){main{padding:20px 14px 40px}.wide{display:none}.narrow{display:block}h1{font-size:1.4rem}}
.scroll{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}
th{color:var(--muted);font-weight:600}
td.l,th.l{text-align:left}
td.l{white-space:normal;min-width:8.5rem}
tr.strong td{font-weight:650}
tr.strong td:first-child{box-shadow:inset 3px 0 var(--good)}
.notes{color:var(--muted);font-size:.9rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(215px,1fr));gap:12px;margin:.9rem 0}
.card{border:1px solid var(--grid);border-radius:10px;padding:12px 14px;min-width:0}
.card .title{font-weight:650}
.card .note{color:var(--muted);font-size:.85rem}
.card .body{white-space:pre-wrap;overflow-wrap:anywhere;margin-top:.4rem;font-size:.95rem;max-height:24rem;overflow-y:auto}
footer{margin-top:2.5rem;color:var(--muted);font-size:.85rem;border-top:1px solid var(--grid);padding-top:1rem}
</style>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
{{range .Lead}}<p class="lead">{{.}}</p>
{{end}}{{if .Facts}}<div class="facts">
{{range .Facts}}<div class="fact"><div class="name">{{.Name}}</div><div class="value">{{.Value}}</div>{{if .Note}}<div class="note">{{.Note}}</div>{{end}}</div>
{{end}}</div>
{{end}}{{range .Sections}}<section>
{{if .Heading}}<h2>{{.Heading}}</h2>
{{end}}{{range .Text}}<p>{{.}}</p>
{{end}}{{range .Plots}}{{plot .}}
{{end}}{{range .Tables}}{{if .Title}}<h3>{{.Title}}</h3>
{{end}}<div class="scroll"><table>
<thead><tr>{{range head .}}<th{{if .Left}} class="l"{{end}}>{{.Text}}</th>{{end}}</tr></thead>
<tbody>
{{range rows .}}<tr{{if .Strong}} class="strong"{{end}}>{{range .Cells}}<td{{if .Left}} class="l"{{end}}>{{.Text}}</td>{{end}}</tr>
{{end}}</tbody></table></div>
{{range .Notes}}<p class="notes">{{.}}</p>
{{end}}{{end}}{{range .Cards}}<div class="cards">
{{range .}}<div class="card"><div class="title">{{.Title}}</div>{{if .Note}}<div class="note">{{.Note}}</div>{{end}}<div class="body">{{.Body}}</div></div>
{{end}}</div>
{{end}}</section>
{{end}}{{if .Footer}}<footer>{{.Footer}}</footer>
{{end}}</main>
</body>
</html>
`
