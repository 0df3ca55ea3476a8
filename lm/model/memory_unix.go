//go:build unix

package model

import "syscall"

// memory is where weights live: outside the garbage collector's heap, whose
// garbage may otherwise grow to the size of the weights before it is worth
// collecting.
type memory struct {
	size  int64
	areas [][]byte
}

func (m *memory) alloc(n int) ([]byte, error) {
	m.size += int64(n)
	if n < 1<<20 {
		return make([]byte, n), nil
	}
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	hugePages(b)
	m.areas = append(m.areas, b)
	return b, nil
}

func (m *memory) free() {
	for _, b := range m.areas {
		syscall.Munmap(b)
	}
	*m = memory{}
}
