package safetensors

import (
	"bytes"
	"fmt"
)

// lookalike says what a file that is not safetensors seems to be and what to
// do about it, judging by its first bytes; it is empty when they mean nothing.
func lookalike(start []byte) string {
	text := bytes.TrimLeft(bytes.TrimPrefix(start, []byte("\xef\xbb\xbf")), " \t\r\n")
	has := func(prefix string) bool { return bytes.HasPrefix(start, []byte(prefix)) }
	switch {
	case has("version https://git-lfs"):
		return "this is a Git LFS pointer, not the weights: run git lfs pull, or download the file again"
	case bytes.HasPrefix(text, []byte("<")):
		return "this is a web page, not weights (an error or a login page saved in their place?): download the file again"
	case has("PK"):
		return "this is a zip archive, as torch.save writes: name it .bin and read it as a PyTorch checkpoint"
	case has("\x80\x02"), has("\x80\x03"), has("\x80\x04"), has("\x80\x05"):
		return "this is a Python pickle, as old versions of torch.save write: name it .bin and read it as a PyTorch checkpoint"
	case has("GGUF"):
		return "this is a GGUF file: use the model's directory of safetensors files, or, where a GGUF file will do, name it .gguf"
	case bytes.HasPrefix(text, []byte("{")):
		return fmt.Sprintf("this begins with JSON text and not with the length of a header (%s): download the file again", excerpt(text))
	case isText(start):
		return fmt.Sprintf("this is text, not weights (%s): download the file again", excerpt(text))
	}
	return ""
}

// isText reports whether b is ASCII text.
func isText(b []byte) bool {
	for _, c := range b {
		if (c < ' ' || c > '~') && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return len(b) > 0
}

// excerpt is the first line of b, quoted.
func excerpt(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return quoted(string(line))
}
