package serve

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"expo/lm/generate/local"
)

// A Pair is two models in memory and the line through them.
type Pair struct {
	SFT, Aligned *local.Engine

	// Alpha is that of the model "expo", and where the page's dial stands at
	// first.
	Alpha float64

	// Mix makes the model at α: into's weights are replaced by it, or it is a
	// new one if into is nil. After an error into is not used again. Calls do
	// not overlap, and into answers nothing meanwhile. The server closes the
	// models that Mix has made.
	Mix func(ctx context.Context, alpha float64, into *local.Engine) (*local.Engine, error)

	// CacheBytes is the memory for models that Mix makes, in bytes of weights.
	// There is always room for one.
	CacheBytes int64
}

// The names of a pair's models.
const (
	nameSFT     = "sft"
	nameAligned = "aligned"
	nameExPO    = "expo"
)

// A modelName says which model answers. Alpha counts for the name expo alone.
type modelName struct {
	name  string
	alpha float64
}

// String is what a request calls it.
func (n modelName) String() string {
	if n.name == nameExPO {
		return nameExPO + "@" + strconv.FormatFloat(n.alpha, 'g', -1, 64)
	}
	return n.name
}

// family is the name without α.
func (n modelName) family() string { return n.name }

// parseName reads a request's model. An empty name is the model served, or a
// pair's expo.
func (s *Server) parseName(name string) (modelName, error) {
	if s.pair == nil {
		if name == "" || name == s.name {
			return modelName{name: s.name}, nil
		}
		return modelName{}, &apiError{status: 404, code: "model_not_found", param: "model",
			message: fmt.Sprintf("the model %q is not served here; %q is", name, s.name)}
	}
	switch name {
	case nameSFT, nameAligned:
		return modelName{name: name}, nil
	case "", nameExPO:
		return modelName{nameExPO, s.pair.Alpha}, nil
	}
	if text, ok := strings.CutPrefix(name, nameExPO+"@"); ok {
		alpha, err := strconv.ParseFloat(text, 64)
		if err == nil && !math.IsNaN(alpha) && math.Abs(alpha) <= maxAlpha {
			return modelName{nameExPO, alpha + 0}, nil // + 0: there is one zero
		}
		return modelName{}, &apiError{status: 404, code: "model_not_found", param: "model",
			message: fmt.Sprintf("the model %q needs a number between -%v and %v after the @, such as expo@0.3", name, maxAlpha, maxAlpha)}
	}
	return modelName{}, &apiError{status: 404, code: "model_not_found", param: "model",
		message: fmt.Sprintf("the model %q is not served here; sft, aligned, expo and expo@0.3, for any α, are", name)}
}

// maxAlpha bounds α: nothing beyond is a model.
const maxAlpha = 1000

// reference is a model in memory with the tokenizer and template of name.
func (s *Server) reference(name modelName) *local.Engine {
	switch {
	case s.pair == nil:
		return s.engine
	case name.name == nameSFT:
		return s.pair.SFT
	}
	return s.pair.Aligned
}

// names lists what a client can choose from.
func (s *Server) names() []modelName {
	if s.pair == nil {
		return []modelName{{name: s.name}}
	}
	return []modelName{{name: nameSFT}, {name: nameAligned}, {nameExPO, s.pair.Alpha}}
}
