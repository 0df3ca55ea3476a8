package train

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"expo/internal/kernel"
	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// The work folder of a run:
//
//	step-00000100/   the last saved state: a model directory like any other, with
//	                 optimizer.safetensors and state.json
//	reference.json   log-probabilities of the model that training began with
//	train.jsonl      a line per step
//
// There is no state of random numbers: the order of rows is a function of the
// seed and the step.

// state is what changes from step to step.
type state struct {
	m      *Model
	o      *Options
	t      *task
	m1, m2 []float32 // AdamW's moments
	step   int       // steps done
	saved  int       // steps in the last saved state
	kept   string    // its folder, "" if there is none
	file   stateFile // what it says of itself
	left   []string  // folders that were never finished, or should be gone already
	run    identity  // what the run is, if there is a work folder
	last   *Step     // of an earlier run, nil if there is none
}

// stateFile is state.json.
type stateFile struct {
	Key  string   `json:"key"`
	Step int      `json:"step"`
	Run  identity `json:"run,omitempty"` // what the key sums up
}

// An identity is what a run depends on, by name, for a person to read: numbers as
// they are, data and weights as digests.
type identity map[string]string

// otherRun is the error for the place of another run: it names what differs.
func otherRun(path string, was, is identity) error {
	var list []string
	for name, now := range is {
		old, ok := was[name]
		switch {
		case !ok || old == now:
		case digested[name] != "":
			list = append(list, digested[name])
		default:
			list = append(list, fmt.Sprintf("%s %s, now %s", name, old, now))
		}
	}
	if list == nil {
		return fmt.Errorf("train: %s %w", path, ErrOtherRun)
	}
	slices.Sort(list)
	return fmt.Errorf("train: %s %w (%s)", path, ErrOtherRun, strings.Join(list, "; "))
}

// digested says how parts of an identity differ that are digests.
var digested = map[string]string{
	"data":  "other data, or another loss",
	"model": "other weights to begin with",
}

// ErrOtherRun is in the chain of the error for a work folder that holds the
// state of another run: other data, options or start.
var ErrOtherRun = errors.New("holds the state of another run")

// digest sums up what a result depends on.
type digest struct {
	h   hash.Hash
	buf []byte
}

func (d *digest) number(v uint64) {
	d.h.Write(binary.LittleEndian.AppendUint64(nil, v))
}

func (d *digest) float(v float64) { d.number(math.Float64bits(v)) }

func (d *digest) text(s string) {
	d.number(uint64(len(s)))
	d.h.Write([]byte(s))
}

func (d *digest) floats(x []float32) {
	d.number(uint64(len(x)))
	if d.buf == nil {
		d.buf = make([]byte, 1<<16)
	}
	for len(x) > 0 {
		n := min(len(x), len(d.buf)/4)
		kernel.Narrow(d.buf, x[:n], kernel.F32)
		d.h.Write(d.buf[:4*n])
		x = x[n:]
	}
}

func (d *digest) sequences(seqs []sequence) {
	d.number(uint64(len(seqs)))
	for _, s := range seqs {
		d.number(uint64(s.from))
		d.number(uint64(len(s.tokens)))
		for _, id := range s.tokens {
			d.buf = binary.LittleEndian.AppendUint32(d.buf[:0], uint32(id))
			d.h.Write(d.buf)
		}
	}
	d.buf = nil
}

// key identifies the run: everything that decides its result. What it sums up is
// in s.run.
func (s *state) key() string {
	d := &digest{h: sha256.New()}
	o := s.o
	s.run = identity{
		"method": s.t.method, "processor": runtime.GOARCH + " " + kernel.Implementations()[0],
		"schedule": string(o.Schedule), "compute": string(o.Compute), "seed": fmt.Sprint(o.Seed),
	}
	for name, v := range map[string]int{"steps": o.stepsFor(len(s.t.rows)), "batch-size": o.BatchSize, "grad-accumulation": o.GradAccumulation, "max-length": o.MaxLength} {
		s.run[name] = fmt.Sprint(v)
	}
	for name, v := range map[string]float64{
		"lr": o.LearningRate, "warmup": o.Warmup, "weight-decay": o.WeightDecay, "clip": o.Clip,
		"adam-beta1": o.Beta1, "adam-beta2": o.Beta2, "adam-epsilon": o.Epsilon,
	} {
		s.run[name] = fmt.Sprint(v)
	}
	d.text(s.t.method)
	d.text(runtime.GOARCH + " " + kernel.Implementations()[0])
	for _, v := range []int{o.stepsFor(len(s.t.rows)), o.BatchSize, o.GradAccumulation, o.MaxLength} {
		d.number(uint64(v))
	}
	for _, v := range []float64{o.LearningRate, o.Warmup, o.WeightDecay, o.Clip, o.Beta1, o.Beta2, o.Epsilon} {
		d.float(v)
	}
	d.text(string(o.Schedule))
	d.text(string(o.Compute))
	d.number(o.Seed)
	if s.t.digest != nil {
		s.t.digest(d)
		data := &digest{h: sha256.New()}
		s.t.digest(data)
		s.run["data"] = hex.EncodeToString(data.h.Sum(nil))
	}
	for _, p := range s.m.layout.list {
		d.text(p.name)
	}
	weights := s.m.weightsDigest()
	d.text(weights)
	s.run["model"] = weights
	return hex.EncodeToString(d.h.Sum(nil))
}

// weightsDigest sums up the weights.
func (m *Model) weightsDigest() string {
	d := &digest{h: sha256.New()}
	d.floats(m.w)
	return hex.EncodeToString(d.h.Sum(nil))
}

const statePrefix = "step-"

// find looks for the state in the work folder, which must be of this run.
func (s *state) find(key string) error {
	if s.o.Work == "" {
		return nil
	}
	if err := os.MkdirAll(s.o.Work, 0o777); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	entries, err := os.ReadDir(s.o.Work)
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(s.o.Work, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."+statePrefix):
			s.left = append(s.left, path)
		case strings.HasPrefix(e.Name(), statePrefix):
			if s.kept != "" {
				s.left = append(s.left, s.kept)
			}
			s.kept = path // the last by name is the latest
		}
	}
	if s.kept == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(s.kept, "state.json"))
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	if err := json.Unmarshal(b, &s.file); err != nil {
		return fmt.Errorf("train: %s/state.json: %w", s.kept, err)
	}
	if s.file.Key != key {
		return otherRun(s.o.Work, s.file.Run, s.run)
	}
	return nil
}

// begin takes up the state that was found, if there is one, and opens the log
// behind the lines that belong to it.
func (s *state) begin() (*logFile, error) {
	if s.o.Work == "" {
		return &logFile{}, nil
	}
	if s.kept != "" {
		if err := s.load(); err != nil {
			return nil, err
		}
		if s.o.Note != nil {
			s.o.Note(fmt.Sprintf("going on after step %d", s.step))
		}
	}
	for _, path := range s.left {
		if err := os.RemoveAll(path); err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
	}
	log, last, err := openLog(filepath.Join(s.o.Work, logName), s.step)
	s.last = last
	return log, err
}

// prepare calls before, unless an earlier run has kept what it found out.
func (s *state) prepare(key string, before func() error) error {
	if s.o.Work == "" {
		return before()
	}
	type reference struct {
		Key    string       `json:"key"`
		Values [][2]float64 `json:"values"` // chosen and rejected, by pair
	}
	path := filepath.Join(s.o.Work, "reference.json")
	var r reference
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &r) == nil && r.Key == key && len(r.Values) == len(s.t.reference) {
		copy(s.t.reference, r.Values)
		return nil
	}
	if err := before(); err != nil {
		return err
	}
	for _, v := range s.t.reference {
		if math.IsNaN(v[0]+v[1]) || math.IsInf(v[0]+v[1], 0) {
			return nil // JSON has no such number; the first step will tell
		}
	}
	b, err := json.Marshal(reference{key, s.t.reference})
	if err == nil {
		err = os.MkdirAll(s.o.Work, 0o777)
	}
	if err == nil {
		err = writeFile(path+".tmp", func(w *bufio.Writer) error { _, err := w.Write(b); return err })
	}
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return nil
}

// load reads the state in s.kept.
func (s *state) load() error {
	if err := s.read("model.safetensors", "", s.m.w); err != nil {
		return err
	}
	for prefix, x := range map[string][]float32{"exp_avg.": s.m1, "exp_avg_sq.": s.m2} {
		if err := s.read("optimizer.safetensors", prefix, x); err != nil {
			return err
		}
	}
	s.step, s.saved = s.file.Step, s.file.Step
	return nil
}

// read fills x, laid out as the model is, from a file of s.kept.
func (s *state) read(file, prefix string, x []float32) error {
	path := filepath.Join(s.kept, file)
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	r, err := safetensors.NewReader(f, info.Size())
	if err != nil {
		return fmt.Errorf("train: %s: %w", path, err)
	}
	byName := map[string]tensor.Tensor{}
	for t := range r.Tensors() {
		byName[t.Name] = t
	}
	for _, p := range s.m.layout.list {
		t, ok := byName[prefix+p.name]
		if !ok || t.DType != tensor.F32 || t.Elements() != int64(p.n) {
			return fmt.Errorf("train: %s does not hold %s of this model", path, prefix+p.name)
		}
		if err := t.ReadFloat32(x[p.at:p.at+p.n], 0); err != nil {
			return fmt.Errorf("train: %s: %w", path, err)
		}
	}
	return nil
}

// save writes the state beside the former one, which it removes afterwards.
func (s *state) save(log *logFile, key string) error {
	if err := log.sync(); err != nil {
		return err
	}
	if err := s.write(key); err != nil {
		return fmt.Errorf("train: saving step %d: %w", s.step, err)
	}
	s.saved = s.step
	return nil
}

// stopped saves what an interrupted run has done, and passes its error on.
func (s *state) stopped(log *logFile, key string, err error) error {
	if s.o.Work == "" || s.o.SaveEvery < 0 || s.step == s.saved {
		return err
	}
	return errors.Join(err, s.save(log, key))
}

func (s *state) write(key string) error {
	name := fmt.Sprintf("%s%08d", statePrefix, s.step)
	stage, target := filepath.Join(s.o.Work, "."+name), filepath.Join(s.o.Work, name)
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	if err := os.Mkdir(stage, 0o777); err != nil {
		return err
	}
	list := func(prefix string, x []float32) (ts []tensor.Tensor) {
		for _, p := range s.m.layout.list {
			ts = append(ts, tensor.Tensor{Name: prefix + p.name, DType: tensor.F32, Shape: p.shape, Data: floats(x[p.at : p.at+p.n])})
		}
		safetensors.Sort(ts)
		return ts
	}
	if err := writeTensors(filepath.Join(stage, "model.safetensors"), list("", s.m.w)); err != nil {
		return err
	}
	if err := writeTensors(filepath.Join(stage, "optimizer.safetensors"), append(list("exp_avg.", s.m1), list("exp_avg_sq.", s.m2)...)); err != nil {
		return err
	}
	files, err := s.m.allFiles()
	if err != nil {
		return err
	}
	if files["state.json"], err = document(stateFile{key, s.step, s.run}); err != nil {
		return err
	}
	for name, b := range files {
		path := filepath.Join(stage, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		if err := writeFile(path, func(w *bufio.Writer) error { _, err := w.Write(b); return err }); err != nil {
			return err
		}
	}
	if err := syncDir(stage); err != nil {
		return err
	}
	// A killed run can leave a state of this very step only if it is complete.
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := os.Rename(stage, target); err != nil {
		return err
	}
	if err := syncDir(s.o.Work); err != nil {
		return err
	}
	if s.kept != "" && s.kept != target {
		if err := os.RemoveAll(s.kept); err != nil {
			return err
		}
	}
	s.kept = target
	return nil
}

func writeTensors(path string, ts []tensor.Tensor) error {
	return writeFile(path, func(w *bufio.Writer) error {
		return safetensors.Write(w, ts, map[string]string{"format": "pt"})
	})
}

// writeFile writes a file and waits until it is on the disk.
func writeFile(path string, f func(*bufio.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(file, 1<<20)
	err = f(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncDir makes a directory's entries durable where the system can.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// allFiles are the small files of a model directory.
func (m *Model) allFiles() (map[string][]byte, error) {
	c, err := m.view("model")
	if err != nil {
		return nil, err
	}
	names, err := c.SmallFiles()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, name := range names {
		if files[name], err = fs.ReadFile(c.Files(), name); err != nil {
			return nil, err
		}
	}
	return files, nil
}
