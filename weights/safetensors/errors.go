package safetensors

import (
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// A FormatError says where a file departs from the format.
type FormatError struct {
	// Tensor is the name, as the header has it, of the tensor at fault; it is
	// empty when the fault belongs to no tensor. It may hold any characters:
	// Error quotes those that a terminal would act on.
	Tensor string

	// Offset is the position in the file of the header text at fault or, when
	// the header is well formed and a tensor lies in the wrong place, of that
	// tensor's data as the header gives it.
	Offset int64

	// Msg says what is wrong, in one printable line.
	Msg string
}

func (e *FormatError) Error() string {
	if e.Tensor == "" {
		return "safetensors: " + e.Msg
	}
	return "safetensors: " + printable(e.Tensor) + ": " + e.Msg
}

// fileError is a fault of the file as a whole.
func fileError(off int64, format string, args ...any) *FormatError {
	return &FormatError{Offset: off, Msg: fmt.Sprintf(format, args...)}
}

// tensorError is a fault of one tensor. The empty string is a legal name,
// which FormatError cannot tell from no name, so the message carries it.
func tensorError(name string, off int64, format string, args ...any) *FormatError {
	msg := fmt.Sprintf(format, args...)
	if name == "" {
		msg = `"": ` + msg
	}
	return &FormatError{Tensor: name, Offset: off, Msg: msg}
}

// maxPrinted is the length in bytes from which on a name is cut in a message:
// a header may hold names of many megabytes.
const maxPrinted = 200

// printable is s as it may appear in a line for a terminal: itself when it is
// plain, and otherwise in Go's quotes, where control characters, text
// direction marks and invalid UTF-8 are escaped.
func printable(s string) string {
	cut := clip(s)
	if cut == "" {
		return `""`
	}
	for _, r := range cut {
		if r == utf8.RuneError || r == ' ' || r == '"' || r == '\\' || !unicode.IsPrint(r) {
			return quoted(s)
		}
	}
	if len(cut) < len(s) {
		return cut + "…"
	}
	return cut
}

// quoted is s in Go's quotes, cut like printable.
func quoted(s string) string {
	cut := clip(s)
	if len(cut) < len(s) {
		return strconv.Quote(cut) + "…"
	}
	return strconv.Quote(cut)
}

// clip is s, or its beginning up to maxPrinted bytes that ends on a rune.
func clip(s string) string {
	if len(s) <= maxPrinted {
		return s
	}
	n := maxPrinted
	for n > maxPrinted-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// shapeText is shape as in messages, "[32000 4096]", cut after 8 dimensions.
func shapeText(shape []int) string {
	if len(shape) > 8 {
		return fmt.Sprintf("%v… (%d dimensions)", shape[:8], len(shape))
	}
	return fmt.Sprint(shape)
}
