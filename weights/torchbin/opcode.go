package torchbin

import "fmt"

// The opcodes that the machine knows, under the names of Python's pickletools.
const (
	opMark           = '('
	opStop           = '.'
	opPop            = '0'
	opPopMark        = '1'
	opFloat          = 'F'
	opInt            = 'I'
	opBinInt         = 'J'
	opBinInt1        = 'K'
	opLong           = 'L'
	opBinInt2        = 'M'
	opNone           = 'N'
	opBinPersID      = 'Q'
	opReduce         = 'R'
	opBinString      = 'T'
	opShortBinString = 'U'
	opBinUnicode     = 'X'
	opAppend         = 'a'
	opBuild          = 'b'
	opGlobal         = 'c'
	opAppends        = 'e'
	opBinGet         = 'h'
	opLongBinGet     = 'j'
	opBinPut         = 'q'
	opLongBinPut     = 'r'
	opSetItem        = 's'
	opTuple          = 't'
	opSetItems       = 'u'
	opEmptyDict      = '}'
	opEmptyList      = ']'
	opEmptyTuple     = ')'
	opBinFloat       = 'G'
	opBinBytes       = 'B'
	opShortBinBytes  = 'C'

	opProto    = 0x80
	opNewObj   = 0x81
	opTuple1   = 0x85
	opTuple2   = 0x86
	opTuple3   = 0x87
	opNewTrue  = 0x88
	opNewFalse = 0x89
	opLong1    = 0x8a
	opLong4    = 0x8b

	opShortBinUnicode = 0x8c
	opBinUnicode8     = 0x8d
	opBinBytes8       = 0x8e
	opEmptySet        = 0x8f
	opAddItems        = 0x90
	opFrozenSet       = 0x91
	opStackGlobal     = 0x93
	opMemoize         = 0x94
	opFrame           = 0x95
	opByteArray8      = 0x96
)

// refusedOpcode names an opcode that exists but is not run, with what a
// message can say about it.
func refusedOpcode(op byte) string {
	name := ""
	switch op {
	case '2':
		name = "DUP"
	case 'P':
		name = "PERSID"
	case 'S':
		name = "STRING"
	case 'V':
		name = "UNICODE"
	case 'd':
		name = "DICT"
	case 'g':
		name = "GET"
	case 'i':
		name = "INST"
	case 'l':
		name = "LIST"
	case 'o':
		name = "OBJ"
	case 'p':
		name = "PUT"
	case 0x82:
		name = "EXT1"
	case 0x83:
		name = "EXT2"
	case 0x84:
		name = "EXT4"
	case 0x92:
		name = "NEWOBJ_EX"
	case 0x97:
		name = "NEXT_BUFFER"
	case 0x98:
		name = "READONLY_BUFFER"
	default:
		return fmt.Sprintf("there is no opcode %#02x", op)
	}
	return "refuses the opcode " + name + ", which torch.save does not write for a state dict"
}
