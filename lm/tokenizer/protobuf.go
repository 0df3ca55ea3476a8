package tokenizer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Types of the pieces of a SentencePiece model, which GGUF uses too.
const (
	pieceNormal      = 1
	pieceUnknown     = 2
	pieceControl     = 3 // never arises from text
	pieceUserDefined = 4 // found in the text before anything else
	pieceUnused      = 5
	pieceByte        = 6
)

// A spmModel is what is used of a SentencePiece model file. Its definition is
// https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto.
type spmModel struct {
	pieces []spmPiece

	// trainer_spec
	modelType          uint64 // 1 Unigram, 2 BPE
	whitespaceAsSuffix bool
	byteFallback       bool
	unkID              int32
	bosPiece, eosPiece string
	padPiece           string
	unkSurface         string

	// normalizer_spec
	charsmap               []byte
	addDummyPrefix         bool
	removeExtraWhitespaces bool
	escapeWhitespaces      bool

	denormalizer []byte // the charsmap of denormalizer_spec

	// lenient is for pieces from a GGUF file: any number of them may be of
	// type unknown, and unused ones are used.
	lenient bool
}

type spmPiece struct {
	text  string
	score float32
	kind  int
}

// A field is one field of a protocol buffer message.
type field struct {
	number int
	wire   int
	value  uint64 // of a number, whatever its wire type
	bytes  []byte // of a string or message
}

// fields calls yield for each field of a message, in order
// (https://protobuf.dev/programming-guides/encoding/).
func fields(b []byte, yield func(field) error) error {
	varint := func() (uint64, error) {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, errors.New("a number is cut off or too long")
		}
		b = b[n:]
		return v, nil
	}
	for len(b) > 0 {
		tag, err := varint()
		if err != nil {
			return err
		}
		if tag>>3 == 0 || tag>>3 > math.MaxInt32 {
			return fmt.Errorf("field number %d is out of range", tag>>3)
		}
		f := field{number: int(tag >> 3), wire: int(tag & 7)}
		switch f.wire {
		case 0:
			if f.value, err = varint(); err != nil {
				return err
			}
		case 1, 5:
			n := 8
			if f.wire == 5 {
				n = 4
			}
			if len(b) < n {
				return fmt.Errorf("field %d: is cut off", f.number)
			}
			if n == 4 {
				f.value = uint64(binary.LittleEndian.Uint32(b))
			} else {
				f.value = binary.LittleEndian.Uint64(b)
			}
			b = b[n:]
		case 2:
			n, err := varint()
			if err != nil {
				return err
			}
			if n > uint64(len(b)) {
				return fmt.Errorf("field %d: has length %d where %d bytes are left", f.number, n, len(b))
			}
			f.bytes, b = b[:n], b[n:]
		default:
			return fmt.Errorf("field %d: wire type %d is not supported", f.number, f.wire)
		}
		if err := yield(f); err != nil {
			return err
		}
	}
	return nil
}

// parseSPM reads a model file. Fields that are not used are passed over.
func parseSPM(b []byte) (*spmModel, error) {
	m := &spmModel{
		modelType: 1, bosPiece: "<s>", eosPiece: "</s>", padPiece: "<pad>", unkSurface: " \u2047 ",
		addDummyPrefix: true, removeExtraWhitespaces: true, escapeWhitespaces: true,
	}
	err := fields(b, func(f field) error {
		if f.wire != 2 {
			return nil
		}
		switch f.number {
		case 1:
			p := spmPiece{kind: pieceNormal}
			err := fields(f.bytes, func(f field) error {
				switch {
				case f.number == 1 && f.wire == 2:
					p.text = string(f.bytes)
				case f.number == 2 && f.wire == 5:
					p.score = math.Float32frombits(uint32(f.value))
				case f.number == 3 && f.wire == 0:
					p.kind = int(min(f.value, math.MaxInt32))
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("piece %d: %w", len(m.pieces), err)
			}
			m.pieces = append(m.pieces, p)
		case 2:
			if err := fields(f.bytes, m.trainerField); err != nil {
				return fmt.Errorf("trainer_spec: %w", err)
			}
		case 3:
			if err := fields(f.bytes, m.normalizerField); err != nil {
				return fmt.Errorf("normalizer_spec: %w", err)
			}
		case 5:
			err := fields(f.bytes, func(f field) error {
				if f.number == 2 && f.wire == 2 {
					m.denormalizer = f.bytes
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("denormalizer_spec: %w", err)
			}
		}
		return nil
	})
	return m, err
}

func (m *spmModel) trainerField(f field) error {
	switch f.wire {
	case 0:
		switch f.number {
		case 3:
			m.modelType = f.value
		case 24:
			m.whitespaceAsSuffix = f.value != 0
		case 35:
			m.byteFallback = f.value != 0
		}
	case 2:
		switch f.number {
		case 44:
			m.unkSurface = string(f.bytes)
		case 46:
			m.bosPiece = string(f.bytes)
		case 47:
			m.eosPiece = string(f.bytes)
		case 48:
			m.padPiece = string(f.bytes)
		}
	}
	return nil
}

func (m *spmModel) normalizerField(f field) error {
	switch {
	case f.number == 2 && f.wire == 2:
		m.charsmap = f.bytes
	case f.number == 3 && f.wire == 0:
		m.addDummyPrefix = f.value != 0
	case f.number == 4 && f.wire == 0:
		m.removeExtraWhitespaces = f.value != 0
	case f.number == 5 && f.wire == 0:
		m.escapeWhitespaces = f.value != 0
	}
	return nil
}
