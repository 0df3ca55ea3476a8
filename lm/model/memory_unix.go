//go:build unix

package model

import (
	"os"
	"syscall"
)

// memory is where weights live: outside the garbage collector's heap, whose
// garbage may otherwise grow to the size of the weights before it is worth
// collecting.
type memory struct {
	size  int64
	areas map[*byte][]byte // by their first byte
}

func (m *memory) alloc(n int) ([]byte, error) {
	if n < 1<<20 {
		m.size += int64(n)
		return make([]byte, n), nil
	}
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	hugePages(b)
	m.keep(b)
	return b, nil
}

// mapFile is n bytes of a file from offset off on, and the whole pages around
// them; ok is false if they cannot be had that way.
func (m *memory) mapFile(f *os.File, off int64, n int) (area, data []byte, ok bool) {
	if n < 1<<20 {
		return nil, nil, false
	}
	info, err := f.Stat()
	if err != nil || info.Size() < off+int64(n) {
		return nil, nil, false // reading says what is wrong
	}
	skip := int(off % int64(os.Getpagesize()))
	area, err = syscall.Mmap(int(f.Fd()), off-int64(skip), skip+n, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, false
	}
	m.keep(area)
	return area, area[skip : skip+n : skip+n], true
}

func (m *memory) keep(area []byte) {
	if m.areas == nil {
		m.areas = map[*byte][]byte{}
	}
	m.areas[&area[0]] = area
	m.size += int64(len(area))
}

// release gives an area of mapFile back.
func (m *memory) release(area []byte) {
	syscall.Munmap(area)
	delete(m.areas, &area[0])
	m.size -= int64(len(area))
}

func (m *memory) free() {
	for _, b := range m.areas {
		syscall.Munmap(b)
	}
	*m = memory{}
}
