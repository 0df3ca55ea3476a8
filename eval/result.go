package eval

import (
	"encoding/json"
	"fmt"
	"math"
)

// Result is what a suite found out about one model.
type Result struct {
	Suite   string `json:"suite"`   // alpacaeval, mtbench, …
	Version string `json:"version"` // of the suite's definition
	Model   string `json:"model"`

	// Config is all that the figures depend on and that another run could set
	// differently: judge, parameters, seeds, digests of files.
	Config  map[string]string `json:"config,omitempty"`
	Metrics []Metric          `json:"metrics"`
	// Warnings are what a reader of the figures has to know, a line each.
	Warnings []string `json:"warnings,omitempty"`
}

// Metric gives the metric of a name, and whether there is one.
func (r *Result) Metric(name string) (Metric, bool) {
	for _, m := range r.Metrics {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}

// Metric is one figure and how far it can be trusted. Value and StdErr are
// NaN where they could not be computed, which JSON has as null.
type Metric struct {
	Name   string
	Value  float64
	N      int       // samples that Value is made of
	StdErr float64   // standard error of Value; NaN if unknown
	CI     *Interval // nil if unknown
}

// Interval holds the true value with some confidence.
type Interval struct {
	Level  float64 `json:"level"` // 0.95
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Method string  `json:"method"` // as "percentile bootstrap over questions, 10000 draws, seed 1"
}

type metricJSON struct {
	Name   string    `json:"name"`
	Value  *float64  `json:"value"`
	N      int       `json:"n"`
	StdErr *float64  `json:"standard_error"`
	CI     *Interval `json:"interval,omitempty"`
}

// MarshalJSON writes {name, value, n, standard_error, interval}; null stands
// for a number that is none.
func (m Metric) MarshalJSON() ([]byte, error) {
	return json.Marshal(metricJSON{m.Name, Finite(m.Value), m.N, Finite(m.StdErr), m.CI})
}

// UnmarshalJSON reads what MarshalJSON writes; null becomes NaN.
func (m *Metric) UnmarshalJSON(data []byte) error {
	var j metricJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("eval: a metric: %w", err)
	}
	*m = Metric{j.Name, OrNaN(j.Value), j.N, OrNaN(j.StdErr), j.CI}
	return nil
}

// Finite is x for a JSON document, which has no NaN and no infinity: nil, and
// so null, in place of those.
func Finite(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

// OrNaN undoes Finite.
func OrNaN(p *float64) float64 {
	if p == nil {
		return math.NaN()
	}
	return *p
}

// Mean is the mean and its standard error, sd(ddof = 1)/√n: NaN for no values,
// and an unknown error (NaN) for a single one.
func Mean(name string, values []float64) Metric {
	n := float64(len(values))
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	mean := sum / n
	squares := 0.0
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	return Metric{Name: name, Value: mean, N: len(values), StdErr: math.Sqrt(squares/(n-1)) / math.Sqrt(n)}
}
