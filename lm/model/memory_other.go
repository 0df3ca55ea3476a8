//go:build !unix

package model

import "os"

// memory is where weights live.
type memory struct{ size int64 }

func (m *memory) alloc(n int) ([]byte, error) {
	m.size += int64(n)
	return make([]byte, n), nil
}

func (m *memory) mapFile(*os.File, int64, int) (area, data []byte, ok bool) { return nil, nil, false }

func (m *memory) release([]byte) {}

func (m *memory) free() { *m = memory{} }
