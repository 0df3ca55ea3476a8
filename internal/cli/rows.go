package cli

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// eachRow calls f for every line of r that is not blank, with its number from
// 1. Lines may be of any length; the
// byte order mark that some editors write is no part of the first.
func eachRow(r io.Reader, f func(n int, line []byte) error) error {
	in := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if len(bytes.TrimSpace(line)) > 0 {
			if err := f(n, line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
