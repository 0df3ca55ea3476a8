package torchbin

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// looksLike says what a file is that neither begins as a zip nor as a legacy
// stream. head is its first bytes, at most 512 of size.
func looksLike(head []byte, size int64) string {
	const not = ", not a file of torch.save"
	prefix := func(s string) bool { return bytes.HasPrefix(head, []byte(s)) }
	text := bytes.ToLower(bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n"))
	switch {
	case size <= 0:
		return "is empty"
	case prefix("version https://git-lfs"):
		return "is a Git LFS pointer, not the weights: run git lfs pull"
	case len(head) > 8 && head[8] == '{' && binary.LittleEndian.Uint64(head) <= uint64(size-8):
		return "is a safetensors file" + not + ": give it a name that ends in .safetensors"
	case prefix("GGUF"):
		return "is a GGUF file" + not
	case len(head) >= 262 && string(head[257:262]) == "ustar":
		return "is a tar archive, perhaps of torch 0.1, which is not supported: load it with torch and save it again"
	case prefix("PK\x05\x06"):
		return "is an empty zip archive"
	case prefix("\x80"):
		return "is a pickle, but does not begin with torch's magic number" + not
	case bytes.HasPrefix(text, []byte("<!doctype html")), bytes.HasPrefix(text, []byte("<html")):
		return "is an HTML page, not the weights: the download was answered with a page (a login, or an error)"
	case bytes.HasPrefix(text, []byte("<?xml")):
		return "is an XML page, not the weights: the download was answered with an error"
	case prefix("\x89HDF\r\n\x1a\n"):
		return "is an HDF5 file (Keras or TensorFlow)" + not
	case prefix("\x93NUMPY"):
		return "is a NumPy array" + not
	case prefix("\x1f\x8b"):
		return "is compressed with gzip: uncompress it first"
	case prefix("\x28\xb5\x2f\xfd"):
		return "is compressed with zstd: uncompress it first"
	case len(bytes.Trim(head, "\x00")) == 0:
		return "begins with zeros" + not + " (a download that was not finished?)"
	case len(text) > 0 && (text[0] == '{' || text[0] == '[') && isText(head):
		return "is JSON" + not
	case isText(head):
		return "is text" + not
	}
	return fmt.Sprintf("begins with %.16q, neither a zip nor a legacy stream of torch.save", head)
}

// isText reports whether b is UTF-8 without control characters, but for a
// character that is cut at its end.
func isText(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return !utf8.FullRune(b)
		}
		if r < ' ' && r != '\t' && r != '\r' && r != '\n' || r == 0x7f {
			return false
		}
		b = b[n:]
	}
	return true
}
