package gguf

import (
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// A FormatError says where a file departs from the format.
type FormatError struct {
	// Key or Tensor is the name of what is at fault, as the file has it; both are
	// empty when the fault belongs to neither. They may hold any characters: Error
	// quotes those that a terminal would act on.
	Key, Tensor string

	// Offset is the position in the file of what is at fault or, when a tensor
	// lies in the wrong place, of its description.
	Offset int64

	// Msg says what is wrong, in one printable line.
	Msg string
}

func (e *FormatError) Error() string {
	for _, name := range []string{e.Tensor, e.Key} {
		if name != "" {
			return "gguf: " + printable(name) + ": " + e.Msg
		}
	}
	return "gguf: " + e.Msg
}

// fileError is a fault of the file as a whole.
func fileError(off int64, format string, args ...any) *FormatError {
	return &FormatError{Offset: off, Msg: fmt.Sprintf(format, args...)}
}

// tensorError is a fault of one tensor.
func tensorError(name string, off int64, format string, args ...any) *FormatError {
	return &FormatError{Tensor: name, Offset: off, Msg: fmt.Sprintf(format, args...)}
}

// maxPrinted is the length in bytes from which on a name is cut in a message.
const maxPrinted = 200

// printable is s as it may appear in a line for a terminal: itself when it is
// plain, and otherwise in quotes, with escapes; cut when it is long.
func printable(s string) string {
	cut, more := s, ""
	if len(s) > maxPrinted {
		n := maxPrinted
		for n > maxPrinted-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		cut, more = s[:n], "…"
	}
	for _, r := range cut {
		if r == utf8.RuneError || r == ' ' || r == '"' || r == '\\' || !unicode.IsPrint(r) {
			return strconv.Quote(cut) + more
		}
	}
	if cut == "" {
		return `""`
	}
	return cut + more
}
