package torchbin

import (
	"testing"
)

func oldPickle() []byte {
	return dictOf(func(p *pickler) {
		p.str("x").v2(func() { p.oldStorage("FloatStorage", "11", 2) }, 0, []int64{2}, []int64{1})
		p.str("y").v2(func() { p.oldStorage("HalfStorage", "9", 3) }, 1, []int64{2}, []int64{1})
	})
}

func goodLegacy() *legacy {
	return legacyOf(oldPickle()).keyList("11", "9").storage(2, string(bytesTo(8))).storage(3, "uvwxyz")
}

func TestLegacy(t *testing.T) {
	for _, tt := range []struct {
		name string
		file []byte
	}{
		{"plain", goodLegacy().bytes()},
		{"bytes behind", append(goodLegacy().bytes(), "more"...)},
	} {
		_, data := mustOpen(t, tt.file)
		if data["x"] != string(bytesTo(8)) || data["y"] != "wxyz" {
			t.Errorf("%s: read %q", tt.name, data)
		}
	}
}

// TestLegacyView reads a part of a storage, as torch before 0.4 could name it.
func TestLegacyView(t *testing.T) {
	view := func(first, count int64, size int64) []byte {
		return legacyOf(dictOf(func(p *pickler) {
			p.str("x").v2(func() {
				p.op(opMark).str("storage").global("torch", "ShortStorage").str("5").str("cpu").int(4)
				p.op(opMark).str("6").int(first).int(count).op(opTuple, opTuple, opBinPersID)
			}, 0, []int64{size}, []int64{1})
			p.str("all").v2(func() { p.oldStorage("ShortStorage", "5", 4) }, 0, []int64{4}, []int64{1})
		})).keyList("5").storage(4, "aabbccdd").bytes()
	}
	_, data := mustOpen(t, view(1, 2, 2))
	if data["x"] != "bbcc" || data["all"] != "aabbccdd" {
		t.Errorf("read %q", data)
	}
	_, err := open(view(1, 2, 3))
	wantError(t, err, "x: state: ", "reaches past the 2 elements")
	_, err = open(view(3, 2, 1))
	wantError(t, err, "the view of the storage 5 is not within its 4 elements")
	_, err = open(view(1<<62, 1<<62, 1))
	wantError(t, err, "the view of the storage 5 is not within its 4 elements")
}

// TestLegacyPython2 reads strings, integers and an OrderedDict as the pickler
// of Python 2 writes them.
func TestLegacyPython2(t *testing.T) {
	var p pickler
	short := func(s string) { p.op(opShortBinString, byte(len(s))); p.WriteString(s) }
	p.proto().global("collections", "OrderedDict").op(opEmptyList, opMark)
	p.op(opEmptyList, opMark)
	short("x")
	p.v2(func() {
		p.op(opMark)
		short("storage")
		p.global("torch", "FloatStorage")
		short("1")
		short("cuda:0")
		p.WriteString("I2\n")
		p.op(opNone, opTuple, opBinPersID)
	}, 0, []int64{2}, []int64{1})
	p.op(opAppends, opAppends, opTuple1, opReduce)
	l := legacyOf(p.stop()).keyList("1").storage(2, "aaaabbbb")
	_, data := mustOpen(t, l.bytes())
	if data["x"] != "aaaabbbb" {
		t.Errorf("read %q", data)
	}
}

// TestLegacySkips passes over the storage of a leftover that it could not
// read.
func TestLegacySkips(t *testing.T) {
	object := dictOf(func(p *pickler) {
		p.str("model").op(opEmptyDict).str("x").v2(func() { p.oldStorage("ByteStorage", "2", 2) }, 0, []int64{2}, []int64{1}).op(opSetItem)
		p.str("other").v2(func() { p.oldStorage("ComplexDoubleStorage", "1", 1) }, 0, []int64{1}, []int64{1})
	})
	b := legacyOf(object).keyList("1", "2").storage(1, "0123456789abcdef").storage(2, "xy").bytes()
	_, err := open(b)
	wantError(t, err, "more than one dict of tensors (the top level, model)")
	object = dictOf(func(p *pickler) {
		p.str("model").op(opEmptyDict).str("x").v2(func() { p.oldStorage("ByteStorage", "2", 2) }, 0, []int64{2}, []int64{1}).op(opSetItem)
		p.str("other").v2(func() { p.oldStorage("ComplexDoubleStorage", "1", 1) }, 0, []int64{1}, []int64{1}).op(opTuple1)
	})
	_, data := mustOpen(t, legacyOf(object).keyList("1", "2").storage(1, "0123456789abcdef").storage(2, "xy").bytes())
	if data["x"] != "xy" {
		t.Errorf("read %q", data)
	}
}

func TestLegacyRefused(t *testing.T) {
	var number, text pickler
	number.proto().int(1002)
	text.proto().str(legacyMagic)
	list := func(push func(p *pickler)) []byte {
		var p pickler
		p.proto().op(opEmptyList, opMark)
		push(&p)
		return p.op(opAppends).stop()
	}
	tests := []struct {
		name string
		edit func(l *legacy)
		want string
	}{
		{"magic as text", func(l *legacy) { l.magic = text.stop() }, "magic number: is not torch's"},
		{"version", func(l *legacy) { l.version = number.stop() }, "protocol version: is not 1001"},
		{"big endian", func(l *legacy) {
			l.system = dictOf(func(p *pickler) { p.str("little_endian").op(opNewFalse) })
		}, "little_endian is False"},
		{"no endian", func(l *legacy) { l.system = dictOf(func(p *pickler) {}) }, "does not say whether it is little_endian"},
		{"no system", func(l *legacy) { l.system = l.version }, "system information: is an integer, want a dict"},
		{"no keys", func(l *legacy) { l.keys = l.version }, "storage keys: is an integer, want a list"},
		{"number for a key", func(l *legacy) { l.keys = list(func(p *pickler) { p.int(11) }) }, "storage keys: has an integer in it"},
		{"key left out", func(l *legacy) { l.keys = list(func(p *pickler) { p.str("11") }) }, "y: storage keys: the storage 9 is not among them"},
		{"key twice", func(l *legacy) { l.keys = list(func(p *pickler) { p.str("11").str("11") }) }, "storage 11: byte 378: is in the list of keys twice"},
		{"key that none uses", func(l *legacy) { l.keys = list(func(p *pickler) { p.str("12") }) }, "storage 12: byte "},
		{"another length", func(l *legacy) { l.storages[0] = 3 }, "has 3 elements, the pickle says 2"},
		{"negative length", func(l *legacy) { l.storages[7] = 0x80 }, "elements, the pickle says 2"},
		{"length cut", func(l *legacy) { l.storages = l.storages[:20] }, "storage 9: byte 377: begins 4 bytes before the end of the file"},
		{"data cut", func(l *legacy) { l.storages = l.storages[:29] }, "storage 9: byte 385: has 6 bytes, 5 are left"},
		{"id of the zip layout", func(l *legacy) { l.object = goodPickle() }, "the persistent id has 5 fields, want 6"},
		{"id where none belongs", func(l *legacy) {
			l.system = dictOf(func(p *pickler) { p.str("x").oldStorage("FloatStorage", "1", 1) })
		}, "system information: byte 87: a persistent id does not belong here"},
		{"module", func(l *legacy) {
			l.object = dictOf(func(p *pickler) {
				p.str("x").op(opMark).str("module").op(opNone, opNone, opNone, opTuple, opBinPersID)
			})
		}, "state_dict() with torch.save"},
		{"code", func(l *legacy) {
			l.system = dictOf(func(p *pickler) { p.str("x").global("os", "system") })
		}, "system information: byte 33: refuses to load os.system"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := goodLegacy()
			tt.edit(l)
			_, err := open(l.bytes())
			wantError(t, err, tt.want)
		})
	}
}
