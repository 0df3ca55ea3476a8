package torchbin

import (
	"strings"

	"expo/weights/tensor"
)

// A kind says what the machine does with a name.
type kind uint8

const (
	kindInert     kind = iota // its objects reach no tensor
	kindDict                  // makes a dict
	kindSize                  // torch.Size: a tuple
	kindDType                 // a torch.dtype
	kindStorage               // a class of storages
	kindTensor                // torch.Tensor
	kindParameter             // torch.nn.Parameter: wraps a tensor
	kindRebuild               // rebuilds a tensor from a storage
	kindRewrap                // rebuilds a parameter around a tensor
	kindFromType              // calls another of these functions, and sets attributes
)

// A global is one name that a pickle may use, as module and name. Nothing is
// imported or called for it.
type global struct {
	module, name string
	kind         kind
	dtype        tensor.DType // of a dtype, or of a storage's elements
	width        int64        // bytes of what a storage's length counts
	// min and max are the numbers of arguments of a function.
	min, max int
	// refuse says why a tensor that depends on the name cannot be read.
	refuse string
}

func (g *global) String() string { return printable(g.module + "." + g.name) }

// untyped reports a storage whose length counts bytes, not elements.
func (g *global) untyped() bool {
	return g.kind == kindStorage && g.dtype == tensor.Invalid && g.refuse == ""
}

// builtinSet is the class of the sets that opcodes make.
var builtinSet = global{module: "builtins", name: "set"}

func findGlobal(module, name string) (*global, bool) {
	g, ok := globals[module+" "+name]
	return g, ok
}

// globals is the closed list of names, by module and name with a space
// between; it is not changed. It follows the list of torch's own restricted
// unpickler (torch/_weights_only_unpickler.py, torch 2.8), and adds the
// classes that a defaultdict or a set is pickled with.
var globals = makeGlobals()

func makeGlobals() map[string]*global {
	all := make(map[string]*global)
	add := func(g global) { all[g.module+" "+g.name] = &g }

	for _, module := range []string{"builtins", "__builtin__"} {
		for _, name := range strings.Fields("set frozenset list tuple int long float complex str unicode bool bytes bytearray") {
			add(global{module: module, name: name})
		}
		add(global{module: module, name: "dict", kind: kindDict})
	}
	for _, name := range strings.Fields("OrderedDict defaultdict Counter") {
		add(global{module: "collections", name: name, kind: kindDict})
	}
	// How protocol 2 writes bytes.
	add(global{module: "_codecs", name: "encode"})
	add(global{module: "torch", name: "device"})
	add(global{module: "torch.serialization", name: "_get_layout"})
	for _, name := range strings.Fields("per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric per_channel_affine_float_qparams") {
		add(global{module: "torch", name: name})
	}
	add(global{module: "torch", name: "Size", kind: kindSize})
	add(global{module: "torch", name: "Tensor", kind: kindTensor})
	add(global{module: "torch.nn.parameter", name: "Parameter", kind: kindParameter})

	const (
		quantized = "is quantized, which is not supported: dequantize it before saving"
		complexes = "has complex elements, which are not supported"
	)
	for name, d := range map[string]tensor.DType{
		"float64": tensor.F64, "float32": tensor.F32, "float16": tensor.F16, "bfloat16": tensor.BF16,
		"float8_e4m3fn": tensor.F8E4M3, "float8_e5m2": tensor.F8E5M2, "float8_e4m3fnuz": tensor.F8E4M3FNUZ,
		"float8_e5m2fnuz": tensor.F8E5M2FNUZ, "float8_e8m0fnu": tensor.F8E8M0,
		"int64": tensor.I64, "int32": tensor.I32, "int16": tensor.I16, "int8": tensor.I8,
		"uint64": tensor.U64, "uint32": tensor.U32, "uint16": tensor.U16, "uint8": tensor.U8, "bool": tensor.BOOL,
	} {
		add(global{module: "torch", name: name, kind: kindDType, dtype: d})
	}
	for _, name := range strings.Fields("complex32 complex64 complex128") {
		add(global{module: "torch", name: name, kind: kindDType, refuse: complexes})
	}
	for _, name := range strings.Fields("qint8 quint8 qint32 quint4x2 quint2x4") {
		add(global{module: "torch", name: name, kind: kindDType, refuse: quantized})
	}
	add(global{module: "torch", name: "float4_e2m1fn_x2", kind: kindDType,
		refuse: "has two elements to the byte (float4_e2m1fn_x2), which is not supported"})

	// Files of torch before 1.10 name the device's class.
	for _, module := range []string{"torch", "torch.cuda"} {
		for name, d := range map[string]tensor.DType{
			"Double": tensor.F64, "Float": tensor.F32, "Half": tensor.F16, "BFloat16": tensor.BF16,
			"Long": tensor.I64, "Int": tensor.I32, "Short": tensor.I16, "Char": tensor.I8, "Byte": tensor.U8, "Bool": tensor.BOOL,
		} {
			add(global{module: module, name: name + "Storage", kind: kindStorage, dtype: d, width: int64(d.Bits() / 8)})
		}
		// The widths of those that are refused are needed to find what lies
		// behind them in a legacy stream.
		for name, w := range map[string]int64{"ComplexFloat": 8, "ComplexDouble": 16} {
			add(global{module: module, name: name + "Storage", kind: kindStorage, width: w, refuse: complexes})
		}
		for name, w := range map[string]int64{"QInt8": 1, "QUInt8": 1, "QInt32": 4, "QUInt4x2": 1, "QUInt2x4": 1} {
			add(global{module: module, name: name + "Storage", kind: kindStorage, width: w, refuse: quantized})
		}
	}
	add(global{module: "torch.storage", name: "UntypedStorage", kind: kindStorage, width: 1})

	const utils = "torch._utils"
	for _, f := range []global{
		{name: "_rebuild_tensor", min: 4, max: 4},
		{name: "_rebuild_tensor_v2", min: 6, max: 7},
		{name: "_rebuild_tensor_v3", min: 7, max: 8},
		{name: "_rebuild_qtensor", max: 7, refuse: quantized},
		{name: "_rebuild_sparse_tensor", max: 2, refuse: "is sparse, which is not supported: save its to_dense()"},
		{name: "_rebuild_nested_tensor", max: 4, refuse: "is a nested tensor, which is not supported"},
		{name: "_rebuild_meta_tensor_no_storage", max: 4, refuse: "is on the meta device: the file does not have its values"},
		{name: "_rebuild_wrapper_subclass", max: 8, refuse: "is of a class that holds its values elsewhere, which is not supported"},
		{name: "_rebuild_device_tensor_from_numpy", max: 4, refuse: "is stored as a NumPy array, which is not supported: move it to the CPU before saving"},
		{name: "_rebuild_device_tensor_from_cpu_tensor", max: 4, refuse: "is stored for another device, which is not supported: move it to the CPU before saving"},
		{name: "_rebuild_xla_tensor", max: 4, refuse: "is stored for XLA, which is not supported: move it to the CPU before saving"},
	} {
		f.module, f.kind = utils, kindRebuild
		add(f)
	}
	add(global{module: utils, name: "_rebuild_parameter", kind: kindRewrap, min: 3, max: 3})
	add(global{module: utils, name: "_rebuild_parameter_with_state", kind: kindRewrap, min: 4, max: 4})
	// The module was torch/tensor.py before torch 1.9.
	for _, module := range []string{"torch._tensor", "torch.tensor"} {
		add(global{module: module, name: "_rebuild_from_type", kind: kindFromType, min: 4, max: 4})
		add(global{module: module, name: "_rebuild_from_type_v2", kind: kindFromType, min: 4, max: 4})
	}
	return all
}

// call gives the value of a call, made by REDUCE or, when the class is to be
// made without its constructor, by NEWOBJ.
func (m *machine) call(fn any, args tuple, newObj bool) (any, error) {
	g, ok := fn.(*global)
	if !ok {
		return nil, m.fail("refuses to call %s", describe(fn))
	}
	if newObj && g.kind != kindInert && g.kind != kindDict && g.kind != kindParameter {
		return nil, m.fail("refuses to make an object of %v", g)
	}
	if n := len(args); g.max > 0 && (n < g.min || n > g.max) {
		return nil, m.fail("%v has %d arguments, want %d to %d", g, n, g.min, g.max)
	}
	if newObj && g.kind == kindDict {
		// Filling it would be the constructor's work.
		return &dict{}, nil
	}
	switch g.kind {
	case kindInert:
		return instance{g}, nil
	case kindDict:
		return m.makeDict(g, args)
	case kindSize:
		if len(args) == 1 {
			if t, ok := args[0].(tuple); ok {
				return t, nil
			}
		}
	case kindParameter, kindRewrap:
		if len(args) > 0 {
			if t, ok := args[0].(*pending); ok {
				return t, nil
			}
			return nil, m.fail("%v wraps %s, want a tensor", g, describe(args[0]))
		}
	case kindRebuild:
		return m.pend(g, args), nil
	case kindFromType:
		// The attributes in args[3] are not the tensor's values; a class of one's
		// own in args[1] does not get this far.
		inner, ok := args[0].(*global)
		class, ok2 := args[1].(*global)
		if !ok || !ok2 || class.kind != kindTensor && class.kind != kindParameter {
			break
		}
		innerArgs, ok := args[2].(tuple)
		if !ok || inner.kind != kindRebuild && inner.kind != kindRewrap {
			break
		}
		return m.call(inner, innerArgs, false)
	default:
		return nil, m.fail("refuses to call %v", g)
	}
	return nil, m.fail("refuses a call of %v with arguments that torch does not give it", g)
}

func (m *machine) pend(g *global, args tuple) *pending {
	return &pending{fn: g, args: args, entry: m.src.entry, offset: m.op}
}

// makeDict makes an OrderedDict or one of its like. Python 2 gives it a list
// of its pairs, Python 3 nothing.
func (m *machine) makeDict(g *global, args tuple) (any, error) {
	if len(args) == 0 || g.name == "defaultdict" && len(args) == 1 {
		return &dict{}, nil
	}
	var pairs []any
	if len(args) == 1 {
		switch a := args[0].(type) {
		case *dict:
			// Later items of the one must not appear in the other.
			n := len(a.items)
			return &dict{a.items[:n:n]}, nil
		case *list:
			pairs = a.items
		case tuple:
			pairs = a
		default:
			return nil, m.fail("%v has %s for an argument, want pairs", g, describe(a))
		}
	}
	// Each pair took the pickle several bytes, but the list can be used again.
	if m.copied += int64(len(pairs)); m.copied > m.src.pos {
		return nil, m.fail("%v is made from the same list too often", g)
	}
	d := &dict{items: make([]item, 0, len(pairs))}
	for _, p := range pairs {
		var kv []any
		switch p := p.(type) {
		case tuple:
			kv = p
		case *list:
			kv = p.items
		}
		if len(kv) != 2 {
			return nil, m.fail("%v has %s among its items, want pairs", g, describe(p))
		}
		d.items = append(d.items, item{kv[0], kv[1]})
	}
	return d, nil
}
