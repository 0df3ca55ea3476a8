package cli

import (
	"os"
	"strings"

	"expo"
	"expo/publish/export"
	"expo/weights/checkpoint"
)

// openAdapted opens a MODEL, or BASE+ADAPTER, a model and a LoRA adapter of PEFT
// to be added to it. A path that is there as a whole wins.
func openAdapted(model string) (*checkpoint.Checkpoint, expo.Input, func(), error) {
	base, adapter, ok := strings.Cut(model, "+")
	if _, err := os.Stat(model); !ok || err == nil {
		c, in, err := openModel(model)
		if err != nil {
			return nil, in, nil, err
		}
		return c, in, func() { c.Close() }, nil
	}
	c, in, err := openModel(base)
	if err != nil {
		return nil, in, nil, err
	}
	dir, _, err := locate(adapter)
	if err != nil {
		c.Close()
		return nil, in, nil, err
	}
	sum, closer, err := export.Adapted(c, dir)
	if err != nil {
		c.Close()
		return nil, in, nil, err
	}
	return sum, in, func() { closer.Close(); c.Close() }, nil
}

// openAdaptedPair is openPair for models with adapters.
func openAdaptedPair(sft, aligned string) (p *pair, done func(), err error) {
	p = new(pair)
	var doneSFT, doneAligned func()
	if p.SFT, p.sft, doneSFT, err = openAdapted(sft); err != nil {
		return nil, nil, err
	}
	if p.Aligned, p.aligned, doneAligned, err = openAdapted(aligned); err != nil {
		doneSFT()
		return nil, nil, err
	}
	return p, func() { doneSFT(); doneAligned() }, nil
}
