package serve

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Votes are the judgments of people. Each is kept as rows of alpaca_eval's
// annotations (https://github.com/tatsu-lab/alpaca_eval), one for each two
// answers that it compares: preference is 1 if output_1 is better, 2 if
// output_2 is, 1.5 if neither.
type Votes struct {
	path string

	mu    sync.Mutex
	file  *os.File
	rows  [][]byte // if there is no file
	pairs []standing
}

// annotation is one row.
type annotation struct {
	Instruction string  `json:"instruction"`
	Output1     string  `json:"output_1"`
	Generator1  string  `json:"generator_1"`
	Output2     string  `json:"output_2"`
	Generator2  string  `json:"generator_2"`
	Annotator   string  `json:"annotator"`
	Preference  float64 `json:"preference"`
	Date        string  `json:"date"`
}

// A standing is how one model does against another.
type standing struct {
	Baseline string     `json:"baseline"`
	Model    string     `json:"model"`
	N        int        `json:"n"`
	Wins     float64    `json:"wins"`     // of model; a draw is half of one
	WinRate  float64    `json:"win_rate"` // percent
	Interval [2]float64 `json:"interval"` // percent, 95 %, Wilson's
}

// rowsInMemory bounds votes that no file keeps.
const rowsInMemory = 20000

// OpenVotes opens a file of votes and counts those in it. A row that was cut
// short is taken off. A file that is not there is created with the first vote.
func OpenVotes(path string) (*Votes, error) {
	v := &Votes{path: path}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	v.file = f
	whole := int64(0)
	in := bufio.NewReaderSize(f, 1<<20)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && len(bytes.TrimSpace(line)) > 0 {
			var a annotation
			if err = json.Unmarshal(line, &a); err == nil {
				v.count(&a)
			}
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("serve: %s: row %d: %w", path, n, err)
		}
		whole += int64(len(line))
	}
	if err := f.Truncate(whole); err == nil {
		_, err = f.Seek(whole, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return v, nil
}

// Name is the file's name without its folder, "" if there is none.
func (v *Votes) Name() string {
	if v.path == "" {
		return ""
	}
	return filepath.Base(v.path)
}

// Close closes the file.
func (v *Votes) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.file == nil {
		return nil
	}
	err := v.file.Close()
	v.file = nil
	return err
}

// count adds a row to the standings. Rows without a preference do not count.
func (v *Votes) count(a *annotation) {
	if a.Preference < 1 || a.Preference > 2 {
		return
	}
	i := slices.IndexFunc(v.pairs, func(s standing) bool { return s.Baseline == a.Generator1 && s.Model == a.Generator2 })
	if i < 0 {
		i = len(v.pairs)
		v.pairs = append(v.pairs, standing{Baseline: a.Generator1, Model: a.Generator2})
	}
	s := &v.pairs[i]
	s.N++
	s.Wins += a.Preference - 1
	s.WinRate, s.Interval = wilson(s.Wins, s.N)
}

// wilson is a share and its 95 % interval, in percent (Wilson, Probable
// Inference, the Law of Succession, and Statistical Inference, 1927).
func wilson(wins float64, n int) (rate float64, interval [2]float64) {
	const z = 1.959963984540054
	p, k := wins/float64(n), float64(n)
	center := (p + z*z/(2*k)) / (1 + z*z/k)
	half := z / (1 + z*z/k) * math.Sqrt(p*(1-p)/k+z*z/(4*k*k))
	return 100 * p, [2]float64{100 * max(0, center-half), 100 * min(1, center+half)}
}

// add keeps the rows of one vote, all or none.
func (v *Votes) add(rows []annotation) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i := range rows {
		if err := enc.Encode(&rows[i]); err != nil {
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.path != "" {
		if v.file == nil {
			f, err := os.OpenFile(v.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
			if err != nil {
				return err
			}
			v.file = f
		}
		at, err := v.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if _, err := v.file.Write(b.Bytes()); err != nil {
			v.file.Truncate(at)
			v.file.Seek(at, io.SeekStart)
			return err
		}
		if err := v.file.Sync(); err != nil {
			return err
		}
	} else {
		if len(v.rows) >= rowsInMemory {
			return fmt.Errorf("%d votes are in memory and no file keeps them; download them and start again with --votes FILE", len(v.rows))
		}
		v.rows = append(v.rows, b.Bytes())
	}
	for i := range rows {
		v.count(&rows[i])
	}
	return nil
}

// standings copies them.
func (v *Votes) standings() []standing {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]standing{}, v.pairs...)
}

// all gives every row.
func (v *Votes) all(w io.Writer) error {
	v.mu.Lock()
	rows, file := v.rows, v.file
	v.mu.Unlock()
	if file == nil {
		for _, r := range rows {
			if _, err := w.Write(r); err != nil {
				return err
			}
		}
		return nil
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.NewSectionReader(file, 0, info.Size()))
	return err
}

// vote is POST /api/votes: which of some answers is best.
func (s *Server) vote(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Instruction string `json:"instruction"`
		Outputs     []struct {
			Generator string `json:"generator"`
			Output    string `json:"output"`
		} `json:"outputs"`
		Best *int `json:"best"` // index, or null: none is
	}
	if err := decode(r, &q); err != nil {
		s.fail(w, err)
		return
	}
	if len(q.Outputs) < 2 || len(q.Outputs) > 8 || q.Best != nil && (*q.Best < 0 || *q.Best >= len(q.Outputs)) {
		s.fail(w, badField("outputs", "2 to 8 outputs, and the index of the best or null, are needed"))
		return
	}
	order := make(map[string]int, len(q.Outputs))
	for i, o := range q.Outputs {
		name, err := s.parseName(o.Generator)
		if err != nil {
			s.fail(w, err)
			return
		}
		q.Outputs[i].Generator = name.String()
		if _, ok := order[name.String()]; ok {
			s.fail(w, badField("outputs", "two outputs are of %s", name))
			return
		}
		order[name.String()] = slices.Index([]string{nameSFT, nameAligned, nameExPO}, name.name)
	}
	now := time.Now().UTC().Format(time.RFC3339)
	var rows []annotation
	for i, a := range q.Outputs {
		for k, b := range q.Outputs {
			// Each two once, in the order in which the models were made; the rest
			// of a vote says nothing about two of which neither is best.
			if oa, ob := order[a.Generator], order[b.Generator]; oa > ob || oa == ob && i >= k || q.Best != nil && *q.Best != i && *q.Best != k {
				continue
			}
			row := annotation{q.Instruction, a.Output, a.Generator, b.Output, b.Generator, "human", 1.5, now}
			if q.Best != nil {
				row.Preference = 1
				if *q.Best == k {
					row.Preference = 2
				}
			}
			rows = append(rows, row)
		}
	}
	if err := s.votes.add(rows); err != nil {
		s.fail(w, fmt.Errorf("the vote could not be saved: %w", err))
		return
	}
	s.showVotes(w, r)
}

func (s *Server) showVotes(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"file": s.votes.Name(), "standings": s.votes.standings()})
}

func (s *Server) downloadVotes(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/jsonl; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="votes.jsonl"`)
	if err := s.votes.all(w); err != nil {
		noteError(w, asAPI(err))
	}
}
