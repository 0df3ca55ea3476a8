package torchbin

import (
	"encoding/binary"
	"math"
	"strconv"
)

// number runs the opcodes that push one number.
func (m *machine) number(op byte) error {
	switch op {
	case opBinInt1, opBinInt2, opBinInt:
		n := int64(4)
		switch op {
		case opBinInt1:
			n = 1
		case opBinInt2:
			n = 2
		}
		v, err := m.src.uint(n)
		if err != nil {
			return err
		}
		if op == opBinInt {
			v = uint64(int64(int32(v)))
		}
		m.push(int64(v))
	case opBinFloat:
		b, err := m.src.next(8)
		if err != nil {
			return err
		}
		m.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	case opLong1, opLong4:
		b, err := m.src.sized(either(op == opLong4, 4, 1))
		if err != nil {
			return err
		}
		m.push(decodeLong(b))
	default:
		line, err := m.src.line()
		if err != nil {
			return err
		}
		if op == opFloat {
			f, err := strconv.ParseFloat(line, 64)
			if err != nil {
				return m.fail("the pickle has %s for a float", printable(line))
			}
			m.push(f)
			return nil
		}
		// Protocols before 2 wrote bools as these two.
		if op == opInt && (line == "00" || line == "01") {
			m.push(line == "01")
			return nil
		}
		if n := len(line); op == opLong && n > 0 && line[n-1] == 'L' {
			line = line[:n-1]
		}
		i, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			return m.fail("the pickle has %s for an integer", printable(line))
		}
		m.push(i)
	}
	return nil
}

// decodeLong returns an int64 if the number fits, else a bigInt.
func decodeLong(b []byte) any {
	for n := len(b); n > 1; n = len(b) {
		// The last byte adds nothing when it only repeats the sign before it.
		if sign := byte(int8(b[n-2]) >> 7); b[n-1] != sign {
			break
		}
		b = b[:n-1]
	}
	if len(b) > 8 {
		return bigInt(b)
	}
	var v uint64
	for i := len(b) - 1; i >= 0; i-- {
		if i == len(b)-1 {
			v = uint64(int64(int8(b[i])))
		} else {
			v = v<<8 | uint64(b[i])
		}
	}
	return int64(v)
}

// text runs the opcodes that push a string or bytes.
func (m *machine) text(op byte) error {
	var n int64
	switch op {
	case opShortBinString, opShortBinUnicode, opShortBinBytes:
		n = 1
	case opBinString, opBinUnicode, opBinBytes:
		n = 4
	default:
		n = 8
	}
	switch op {
	case opShortBinBytes, opBinBytes, opBinBytes8, opByteArray8:
		l, err := m.src.uint(n)
		if err != nil {
			return err
		}
		m.push(raw{})
		return m.src.skip(l)
	}
	b, err := m.src.sized(n)
	if err != nil {
		return err
	}
	m.push(string(b))
	return nil
}
