package chat

import (
	"embed"
	"fmt"
	"strings"
)

// Templates of families of models, written for this package. Each says where
// its format is defined.
//
//go:embed templates/*.jinja
var templates embed.FS

// families are the names of templates, and the files that hold them.
var families = []struct{ name, file string }{
	{"alpaca", "alpaca"},
	{"chatml", "chatml"},
	{"internlm2", "internlm2"},
	{"llama3", "llama3"},
	{"mistral", "mistral"},
	{"openchat", "openchat"},
	{"snorkel", "mistral"},
	{"starling", "openchat"},
	{"tulu", "tulu"},
	{"vicuna", "vicuna"},
	{"zephyr", "zephyr"},
}

// Named is the template of a family of models, by one of [Names], for a model
// whose files have none. A model's own template comes first: models of one
// family differ in spaces that matter.
func Named(name string) (*Template, error) {
	for _, f := range families {
		if f.name != name {
			continue
		}
		source, err := templates.ReadFile("templates/" + f.file + ".jinja")
		if err != nil {
			return nil, fmt.Errorf("chat: %w", err)
		}
		return Parse(string(source))
	}
	return nil, fmt.Errorf("chat: no template is called %q, only %s", name, strings.Join(Names(), ", "))
}

// Names lists what Named knows, in order.
func Names() []string {
	names := make([]string, len(families))
	for i, f := range families {
		names[i] = f.name
	}
	return names
}
