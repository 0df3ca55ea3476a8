package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Load reads the chat template of a model from the files of its folder, as
// transformers does: chat_template.jinja and additional_chat_templates/*.jinja
// if there are any, and else the chat_template of tokenizer_config.json, which
// is one template or a list of named ones. Without a template the error is
// ErrNoTemplate.
func Load(files fs.FS) (*Template, error) {
	sources, err := templateFiles(files)
	if err != nil {
		return nil, err
	}
	if len(sources) == 0 {
		if sources, err = configTemplates(files); err != nil {
			return nil, err
		}
	}
	return ParseAll(sources)
}

// templateFiles reads the templates that have files of their own.
func templateFiles(files fs.FS) (map[string]string, error) {
	names, err := fs.Glob(files, "additional_chat_templates/*.jinja")
	if err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	sources := map[string]string{}
	for _, name := range append(names, "chat_template.jinja") {
		text, err := fs.ReadFile(files, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, fmt.Errorf("chat: %w", err)
		}
		key := strings.TrimSuffix(path.Base(name), ".jinja")
		if name == "chat_template.jinja" {
			key = "default"
		}
		sources[key] = string(text)
	}
	return sources, nil
}

// configTemplates reads the templates in tokenizer_config.json.
func configTemplates(files fs.FS) (map[string]string, error) {
	const name = "tokenizer_config.json"
	data, err := fs.ReadFile(files, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	var config struct {
		ChatTemplate json.RawMessage `json:"chat_template"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("chat: %s: %w", name, err)
	}
	raw := config.ChatTemplate
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] == '"' {
		var source string
		if err := json.Unmarshal(raw, &source); err != nil {
			return nil, fmt.Errorf("chat: %s: chat_template: %w", name, err)
		}
		return map[string]string{"default": source}, nil
	}
	var list []struct{ Name, Template string }
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("chat: %s: chat_template is neither text nor a list of named templates: %w", name, err)
	}
	sources := map[string]string{}
	for _, t := range list {
		sources[t.Name] = t.Template
	}
	return sources, nil
}
