package checkpointtest

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"

	"expo/weights/tensor"
)

// storageClass is torch's name for a storage of a type.
var storageClass = map[tensor.DType]string{
	tensor.F64: "DoubleStorage", tensor.F32: "FloatStorage", tensor.F16: "HalfStorage", tensor.BF16: "BFloat16Storage",
	tensor.I64: "LongStorage", tensor.I32: "IntStorage", tensor.I16: "ShortStorage", tensor.I8: "CharStorage",
	tensor.U8: "ByteStorage", tensor.BOOL: "BoolStorage",
}

// torchFile is a state dict as torch.save writes it since 1.6: a zip of a
// pickle and of one stored entry per tensor. The opcodes are those of
// https://docs.python.org/3/library/pickletools.html, protocol 2.
func torchFile(ts []tensor.Tensor) ([]byte, error) {
	var out, p bytes.Buffer
	z := zip.NewWriter(&out)
	add := func(name string, b []byte) error {
		w, err := z.CreateHeader(&zip.FileHeader{Name: "archive/" + name, Method: zip.Store})
		if err == nil {
			_, err = w.Write(b)
		}
		return err
	}
	str := func(s string) {
		p.WriteByte('X')
		p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
		p.WriteString(s)
	}
	integer := func(n int) {
		p.WriteByte('J')
		p.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	}
	tuple := func(ns []int) {
		p.WriteByte('(')
		for _, n := range ns {
			integer(n)
		}
		p.WriteByte('t')
	}
	const ordered = "ccollections\nOrderedDict\n)R"
	p.WriteString("\x80\x02" + ordered + "(")
	for i, t := range ts {
		class, ok := storageClass[t.DType]
		if !ok {
			return nil, fmt.Errorf("%s: torch has no storage class for %v", t.Name, t.DType)
		}
		str(t.Name)
		p.WriteString("ctorch._utils\n_rebuild_tensor_v2\n((")
		str("storage")
		p.WriteString("ctorch\n" + class + "\n")
		str(fmt.Sprint(i))
		str("cpu")
		integer(int(t.Elements()))
		p.WriteString("tQ")
		integer(0)
		tuple(t.Shape)
		tuple(strides(t.Shape))
		p.WriteString("\x89" + ordered + "tR")
	}
	p.WriteString("u.")
	if err := add("data.pkl", p.Bytes()); err != nil {
		return nil, err
	}
	if err := add("byteorder", []byte("little")); err != nil {
		return nil, err
	}
	for i, t := range ts {
		if err := add(fmt.Sprintf("data/%d", i), Bytes(t)); err != nil {
			return nil, err
		}
	}
	if err := add("version", []byte("3\n")); err != nil {
		return nil, err
	}
	err := z.Close()
	return out.Bytes(), err
}

// strides are those of a contiguous tensor, in elements.
func strides(shape []int) []int {
	s := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		s[i] = n
		n *= max(shape[i], 1)
	}
	return s
}
