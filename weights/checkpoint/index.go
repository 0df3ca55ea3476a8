package checkpoint

import (
	"encoding/json"
)

// index is the contents of model.safetensors.index.json: weight_map sorted by
// name, total_size in bytes without headers, total_parameters with a head that
// is tied to the embedding counted once.
func (p *plan) index(c *Checkpoint) ([]byte, error) {
	type metadata struct {
		TotalParameters int64 `json:"total_parameters"`
		TotalSize       int64 `json:"total_size"`
	}
	doc := struct {
		Metadata  metadata          `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}{WeightMap: make(map[string]string)}
	tied, _ := c.config.TieWordEmbeddings()
	head, _ := c.Head()
	for _, f := range p.files {
		for _, t := range f.tensors {
			doc.WeightMap[t.Name] = f.name
			doc.Metadata.TotalSize += t.Size()
			if t.DType.Float() && !(tied && t.Name == head) {
				doc.Metadata.TotalParameters += t.Elements()
			}
		}
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	return append(b, '\n'), err
}
