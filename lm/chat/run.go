package chat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ardanlabs/jinja"
)

// Bounds on what one rendering may do. A step is about one operation, or the
// work of one on 64 bytes of text. What a template may do grows with what it is
// given, because a long conversation is no reason to fail.
const (
	baseSteps     = 1_000_000
	stepsPerValue = 1000
	stepsPerByte  = 2

	baseMemory    = 128 << 20 // bytes of all strings and lists made, including those no longer in use
	memoryPerByte = 256

	baseOutput    = 16 << 20 // bytes written, including those written by macros to be used elsewhere
	outputPerByte = 16

	maxCalls  = 200     // of macros inside each other
	maxNest   = 500     // of lists and mappings inside each other
	maxRange  = 100_000 // length of a range, as in Jinja's sandbox
	ctxEvery  = 4096    // steps between two looks at the context
	entrySize = 96      // bytes that an entry of a mapping takes, roughly
	valueSize = 32      // bytes that a value takes, roughly
)

// A run is one rendering of a template.
type run struct {
	ctx  context.Context
	prog *program
	now  func() time.Time

	steps, maxSteps   int64
	looked            int64 // steps at the last look at ctx
	memory, maxMemory int64
	output, maxOutput int64
	calls             int

	tuples map[*jinja.List]bool // what is a tuple and no list
	spaces map[*jinja.Dict]bool // what is a namespace and no mapping
	rounds map[*jinja.Dict]loopState
	named  []string // keyword arguments of the call being made, in order
}

// loopState is what loop.changed remembers.
type loopState struct {
	seen bool
	args []value
}

func newRun(ctx context.Context, p *program, now func() time.Time, values, size int64) *run {
	if now == nil {
		now = time.Now
	}
	return &run{
		ctx:       ctx,
		prog:      p,
		now:       now,
		maxSteps:  baseSteps + values*stepsPerValue + size*stepsPerByte,
		maxMemory: baseMemory + size*memoryPerByte,
		maxOutput: baseOutput + size*outputPerByte,
		tuples:    map[*jinja.List]bool{},
		spaces:    map[*jinja.Dict]bool{},
		rounds:    map[*jinja.Dict]loopState{},
	}
}

// render runs the template with the variables given.
func (r *run) render(vars *jinja.Dict) (text string, err error) {
	// The library is not ours to prove free of panics; what it runs is a
	// stranger's.
	defer func() {
		if p := recover(); p != nil {
			text, err = "", &TemplateError{Message: fmt.Sprintf("the template engine failed: %v", p)}
		}
	}()
	if err := context.Cause(r.ctx); err != nil {
		return "", err
	}
	scope := r.functions()
	for name, v := range r.globals() {
		scope[mangle(name)] = v
	}
	for _, key := range vars.Keys {
		scope[mangle(key)] = vars.Data[key]
	}
	text, err = r.prog.code.RenderValues(scope)
	if err == nil {
		return text, nil
	}
	if e := new(TemplateError); !errors.As(err, &e) {
		err = &TemplateError{Message: err.Error(), Err: err}
	}
	return "", err
}

// spend counts steps.
func (r *run) spend(n int) error {
	r.steps += int64(n)
	if r.steps > r.maxSteps {
		return fmt.Errorf("%w: more than %d steps", ErrLimit, r.maxSteps)
	}
	if r.steps-r.looked >= ctxEvery {
		r.looked = r.steps
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
	}
	return nil
}

// read counts the work of going over n bytes.
func (r *run) read(n int) error { return r.spend(1 + n/64) }

// grow counts n bytes about to be made.
func (r *run) grow(n int) error {
	if r.memory += int64(n); r.memory > r.maxMemory {
		return fmt.Errorf("%w: more than %d bytes of values", ErrLimit, r.maxMemory)
	}
	return r.read(n)
}

// growTimes counts count pieces of n bytes, count and n not negative.
func (r *run) growTimes(n int, count int64) error {
	if n > 0 && count > (r.maxMemory-r.memory)/int64(n) {
		return fmt.Errorf("%w: more than %d bytes of values", ErrLimit, r.maxMemory)
	}
	return r.grow(n * int(count))
}

// str is a new string as a value.
func (r *run) str(s string) (value, error) {
	return jinja.NewString(s), r.grow(len(s))
}

// list is a new list as a value.
func (r *run) list(items []value) (value, error) {
	return jinja.NewList(items), r.grow(valueSize * (len(items) + 1))
}

// tuple is a new tuple as a value.
func (r *run) tuple(items ...value) (value, error) {
	v := jinja.NewList(items)
	r.tuples[v.AsList()] = true
	return v, r.grow(valueSize*(len(items)+1) + entrySize)
}

// set sets a key of a mapping that r has made.
func (r *run) set(d value, key string, v value) error {
	d.AsDict().Set(key, v)
	return r.grow(entrySize + len(key))
}

// missingName is the name of the function that stands for an argument that a
// call left out. Nothing else has it.
const missingName = "\x00missing"

func isMissing(v value) bool { return v.IsCallable() && v.AsCallable().Name == missingName }

// A function does what an expression of the template asks for.
type function func(e *expr, args []value, named map[string]value) (value, error)

// keepsMarkup are the functions that do not take a markup for a string.
var keepsMarkup = map[string]bool{"op": true, "output": true, "list": true, "tuple": true, "dict": true, "call": true, "setfield": true, "concat": true}

// functions is what a translated template calls.
func (r *run) functions() map[string]value {
	scope := map[string]value{}
	bare := func(name string, f func([]value, map[string]value) (value, error)) {
		scope[name] = jinja.NewCallable(name, f)
	}
	add := func(name string, f function) {
		bare(name, func(args []value, named map[string]value) (value, error) {
			e := r.prog.sites[args[0].AsInt()]
			err := r.spend(1 + e.weight)
			v := jinja.Undefined()
			if !keepsMarkup[name] {
				for i, a := range args {
					args[i] = plain(a)
				}
			}
			if err == nil {
				v, err = f(e, args[1:], named)
			}
			return v, at(e.line, err)
		})
	}
	add("list", func(_ *expr, args []value, _ map[string]value) (value, error) { return r.list(args) })
	add("tuple", func(_ *expr, args []value, _ map[string]value) (value, error) { return r.tuple(args...) })
	add("dict", func(_ *expr, args []value, _ map[string]value) (value, error) { return r.mapping(args) })
	add("number", func(e *expr, _ []value, _ map[string]value) (value, error) { return e.val, nil })
	add("attr", func(e *expr, args []value, _ map[string]value) (value, error) { return r.attr(e, args[0], e.name) })
	add("item", func(e *expr, args []value, _ map[string]value) (value, error) { return r.item(e, args[0], args[1]) })
	add("slice", func(e *expr, args []value, _ map[string]value) (value, error) { return r.slice(e, args) })
	add("call", r.call)
	add("filter", func(e *expr, args []value, named map[string]value) (value, error) {
		a, err := r.arguments(e, args[1:], named)
		if err != nil {
			return jinja.Undefined(), err
		}
		return r.filter(e.name, args[0], a)
	})
	add("test", func(e *expr, args []value, named map[string]value) (value, error) {
		a, err := r.arguments(e, args[1:], named)
		if err != nil {
			return jinja.Undefined(), err
		}
		ok, err := r.test(e.name, args[0], a)
		return jinja.NewBool(ok), err
	})
	add("op", func(e *expr, args []value, _ map[string]value) (value, error) {
		return r.operate(e, args[0], args[1])
	})
	add("sign", func(e *expr, args []value, _ map[string]value) (value, error) { return r.sign(e, args[0]) })
	add("compare", func(e *expr, args []value, _ map[string]value) (value, error) {
		for i, op := range e.ops {
			ok, err := r.compare(op, args[i], args[i+1], e.args[i], e.args[i+1])
			if err != nil || !ok {
				return jinja.NewBool(false), err
			}
		}
		return jinja.NewBool(true), nil
	})
	add("concat", func(_ *expr, args []value, _ map[string]value) (value, error) {
		s, err := r.join("", args)
		return jinja.NewString(s), err
	})
	add("iterate", func(e *expr, args []value, _ map[string]value) (value, error) {
		items, err := r.items(e, args[0])
		if err == nil {
			err = r.spend(len(items) * e.weight)
		}
		return jinja.NewList(items), err
	})
	add("count", func(*expr, []value, map[string]value) (value, error) { return jinja.NewString(""), nil })
	add("round", func(_ *expr, args []value, _ map[string]value) (value, error) {
		// A loop is known by this entry from other mappings.
		if args[0].IsDict() {
			d := args[0].AsDict().Data
			d[loopMark] = jinja.NewBool(true)
			d["depth"], d["depth0"] = jinja.NewInt(1), jinja.NewInt(0) // of recursion
		}
		return jinja.NewString(""), nil
	})
	add("output", func(_ *expr, args []value, _ map[string]value) (value, error) {
		s, err := r.text(args[0])
		if err == nil {
			err = r.write(len(s))
		}
		return jinja.NewString(s), err
	})
	bare("text", func(args []value, _ map[string]value) (value, error) {
		return args[0], r.write(len(args[0].AsString()))
	})
	add("unpack", func(e *expr, args []value, _ map[string]value) (value, error) {
		items, err := r.items(e, args[0])
		if err == nil && len(items) != len(e.args) {
			err = fmt.Errorf("%d values for %d names", len(items), len(e.args))
		}
		return jinja.NewList(items), err
	})
	bare("nth", func(args []value, _ map[string]value) (value, error) {
		return args[0].AsList().Get(int(args[1].AsInt())), nil
	})
	add("setfield", func(e *expr, args []value, _ map[string]value) (value, error) {
		if !args[0].IsDict() || !r.spaces[args[0].AsDict()] {
			return jinja.Undefined(), fmt.Errorf("cannot set %s.%s: only a namespace has attributes that can be set", e.name, e.ops[0])
		}
		return jinja.NewString(""), r.setSpace(args[0], e.ops[0], args[1])
	})
	bare("ismissing", func(args []value, _ map[string]value) (value, error) {
		return jinja.NewBool(isMissing(args[0])), nil
	})
	scope["missing"] = jinja.NewCallable(missingName, nil)
	return scope
}

// at adds the line to an error that has none.
func at(line int, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*TemplateError); ok {
		if e.Line == 0 {
			e.Line = line
		}
		return e
	}
	return &TemplateError{Line: line, Message: err.Error(), Err: err}
}

// write counts n bytes of output.
func (r *run) write(n int) error {
	if r.output += int64(n); r.output > r.maxOutput {
		return fmt.Errorf("%w: more than %d bytes of output", ErrLimit, r.maxOutput)
	}
	return r.read(n)
}

// loopMark is the entry by which the loop variable is known.
const loopMark = "\x00loop"

func isLoop(d *jinja.Dict) bool {
	_, ok := d.Data[loopMark]
	return ok
}
