#!/usr/bin/env python3
"""Runs expo on damaged and hostile inputs and checks how it refuses them.

Requires: python3 with torch (2.8.0), safetensors, numpy; GNU time for memory; Go, unless --expo
Command:  python3 scripts/hostile.py [--expo PATH] [--only WORD] [-v]

Every case is one bad model beside a good one. For each, expo extrapolate
(the bad model on either side), diff, inspect and verify must end with a
status from 1 to 5 and one error line that begins with "expo: error:", without
a Go stack, a control character or a timeout, in bounded memory, leaving no
output and nothing beside it; a pickle must not have run. Further cases are
about where the output goes, two runs at once, and weights that are NaN or
infinite, which are carried and reported.

Prints a line per run; exit status 1 if any is otherwise.
"""

import argparse
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from expo_command import Expo, Run

MiB = 1 << 20
PEAK = 96 * MiB  # allowed above four times the size of the input
NAMES = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "tie_word_embeddings": False, "vocab_size": 64}


def good_state(seed=0):
    torch.manual_seed(seed)
    return {
        NAMES[0]: (torch.randn(64, 32) * 0.02).bfloat16(),
        NAMES[1]: torch.ones(32).bfloat16(),
        NAMES[2]: (torch.randn(64, 32) * 0.02).bfloat16(),
    }


def write_config(folder):
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(CONFIG, f)


def good_model(folder, seed=0):
    os.makedirs(folder)
    save_file(good_state(seed), os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    write_config(folder)


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)


# --- safetensors -----------------------------------------------------------


def sheader(header, data=b"", length=None):
    """A safetensors file from a header (bytes, or an object to encode)."""
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype="BF16", shape=(2, 2), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def good_file():
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as f:
        save_file(good_state(), f.name, metadata={"format": "pt"})
        with open(f.name, "rb") as g:
            return g.read()


def safetensors_cases():
    good = good_file()
    n = struct.unpack("<Q", good[:8])[0]
    two = lambda x, y: {"a": x, "b": y}
    yield "empty file", b""
    yield "seven bytes", good[:7]
    yield "truncated in the header", good[: n // 2]
    yield "truncated in the data", good[: 8 + n + (len(good) - 8 - n) // 2]
    yield "one byte short", good[:-1]
    yield "one byte too many", good + b"\0"
    yield "header length 2^63", sheader(b"{}", length=1 << 63)
    yield "header length 2^64-1", sheader(b"{}", length=(1 << 64) - 1)
    yield "header length 100000001", sheader(b"{}" + b" " * 99_999_999)
    yield "header length beyond the file", sheader(b"{}", length=50_000_000)
    yield "header is not JSON", sheader(b"{'a': 1}")
    yield "header is an array", sheader(b"[]")
    yield "header is not UTF-8", sheader(b'{"\xff":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}', bytes(8))
    yield "header nests 200000 arrays", sheader(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}")
    yield "header nests 200000 objects", sheader(b'{"a":' * 200_000 + b"1" + b"}" * 200_000)
    yield "header padded with NUL", sheader(json.dumps({"a": entry()}).encode() + b"\0" * 8, bytes(8))
    yield "two JSON values", sheader(b"{}{}")
    yield "tensors overlap", sheader(two(entry(), entry(offsets=(4, 12))), bytes(12))
    yield "one range for both tensors", sheader(two(entry(), entry()), bytes(8))
    yield "gap between tensors", sheader(two(entry(), entry(offsets=(16, 24))), bytes(24))
    yield "gap at the start", sheader({"a": entry(offsets=(8, 16))}, bytes(16))
    yield "offsets out of the file", sheader({"a": entry(shape=(1 << 20, 1 << 10), offsets=(0, 1 << 31))}, bytes(8))
    yield "offsets at 2^63", sheader({"a": entry(offsets=((1 << 63) - 8, 1 << 63))}, bytes(8))
    yield "offsets beyond 2^64", sheader({"a": entry(offsets=(0, (1 << 64) + 8))}, bytes(8))
    yield "begin after end", sheader({"a": entry(offsets=(8, 0))}, bytes(8))
    yield "negative offset", sheader({"a": entry(offsets=(-8, 0))}, bytes(8))
    yield "one offset", sheader({"a": entry(offsets=(0,))}, bytes(8))
    yield "duplicate name", sheader(b'{"a":%s,"a":%s}' % (json.dumps(entry()).encode(), json.dumps(entry(offsets=(8, 16))).encode()), bytes(16))
    yield "duplicate name, the first empty", sheader(b'{"a":%s,"a":%s}' % (json.dumps(entry(shape=(0,), offsets=(0, 0))).encode(), json.dumps(entry()).encode()), bytes(8))
    yield "duplicate name, escaped", sheader(b'{"a":%s,"\\u0061":%s}' % (json.dumps(entry()).encode(), json.dumps(entry(offsets=(8, 16))).encode()), bytes(16))
    yield "duplicate key in an entry", sheader(b'{"a":{"dtype":"BF16","dtype":"F16","shape":[2,2],"data_offsets":[0,8]}}', bytes(8))
    yield "shape and bytes differ", sheader({"a": entry(shape=(3, 2))}, bytes(8))
    yield "shape overflows to 0", sheader({"a": entry(shape=(1 << 32, 1 << 32), offsets=(0, 0))})
    yield "shape overflows to 8 bytes", sheader({"a": entry(dtype="U8", shape=((1 << 61) + 1, 8), offsets=(0, 8))}, bytes(8))
    yield "dimension 2^64", sheader({"a": entry(shape=(1 << 64, 1))}, bytes(8))
    yield "negative dimensions", sheader({"a": entry(shape=(-2, -2))}, bytes(8))
    yield "fractional dimension", sheader({"a": entry(shape=(2.5, 2))}, bytes(8))
    yield "dimension is a string", sheader({"a": entry(shape=("2", 2))}, bytes(8))
    yield "unknown dtype", sheader({"a": entry(dtype="BF17")}, bytes(8))
    yield "lower case dtype", sheader({"a": entry(dtype="bf16")}, bytes(8))
    yield "dtype with an escape sequence", sheader({"a": entry(dtype="\x1b[31mBF16\n")}, bytes(8))
    yield "name with an escape sequence", sheader({"\x1b]0;owned\x07\nexpo: ok": entry(shape=(3, 2))}, bytes(8))
    yield "name of a megabyte", sheader({"a" * MiB: entry(shape=(3, 2))}, bytes(8))
    yield "metadata is not strings", sheader({"__metadata__": {"format": 1}, "a": entry()}, bytes(8))
    yield "entry is null", sheader({"a": None})
    yield "Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123\n"
    yield "HTML page", b"<!DOCTYPE html><html><body>Not found</body></html>"
    yield "zip under this name", zip_of({"archive/data.pkl": b"\x80\x02."})
    yield "empty pickle under this name", b"\x80\x02."


# --- torch files -----------------------------------------------------------


def zip_of(entries, method=zipfile.ZIP_STORED):
    with tempfile.NamedTemporaryFile(suffix=".zip") as f:
        with zipfile.ZipFile(f.name, "w", method) as z:
            for name, data in entries.items():
                z.writestr(name, data)
        with open(f.name, "rb") as g:
            return g.read()


def raw_zip(entries):
    """A zip from (name, local header offset or None, method, flags, size, stored bytes); the offset and size are written as told."""
    out, central = bytearray(), bytearray()
    for name, offset, method, flags, size, data in entries:
        name = name.encode()
        at = len(out)
        crc = zlib.crc32(data)
        if offset is None:
            offset = at
            out += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, flags, method, 0, 0, crc, len(data), size, len(name), 0) + name + data
        central += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, flags, method, 0, 0, crc, size if method == 0 else len(data), size, len(name), 0, 0, 0, 0, 0, offset) + name
    start = len(out)
    n = len(entries)
    return bytes(out + central + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, n, n, len(central), start, 0))


def torch_zip(pkl, storages=None):
    entries = {"archive/data.pkl": pkl, "archive/version": b"3\n", "archive/byteorder": b"little"}
    for k, v in (storages or {"0": bytes(8)}).items():
        entries[f"archive/data/{k}"] = v
    return zip_of(entries)


def string(s):
    b = s.encode()
    return b"X" + struct.pack("<I", len(b)) + b


def number(n):
    if 0 <= n < 1 << 31:
        return b"J" + struct.pack("<i", n)
    b = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(b)]) + b


def storage(cls="BFloat16Storage", key="0", numel=4, location="cpu"):
    return b"(" + string("storage") + b"ctorch\n" + cls.encode() + b"\n" + string(key) + string(location) + number(numel) + b"tQ"


def rebuilt(store=None, offset=0, size=(2, 2), stride=(2, 1), tail=b"", function=b"ctorch._utils\n_rebuild_tensor_v2\n"):
    numbers = lambda ns: b"(" + b"".join(number(x) for x in ns) + b"t"
    return function + b"(" + (store or storage()) + number(offset) + numbers(size) + numbers(stride) + b"\x89ccollections\nOrderedDict\n)R" + tail + b"tR"


def state(*items):
    """A pickle of a dict of (name, value as opcodes)."""
    return b"\x80\x02}(" + b"".join(string(k) + v for k, v in items) + b"u."


def memo_bomb():
    """l0 = [x, x]; l1 = [l0, l0]; …: 2^40 leaves in a few hundred bytes, under a tensor's name."""
    p = b"\x80\x02}" + string("w") + b"]q\0(K\1K\1e"
    for i in range(40):
        p += b"0]q" + bytes([i + 1]) + b"(h" + bytes([i]) + b"h" + bytes([i]) + b"e"
    return p + b"s."


def dict_bomb():
    """The same with dicts, as nested state dicts."""
    p = b"\x80\x02}q\0(" + string("w") + rebuilt() + b"u0"
    for i in range(40):
        p += b"}q" + bytes([i + 1]) + b"(" + string("model") + b"h" + bytes([i]) + string("module") + b"h" + bytes([i]) + b"u0"
    return p + b"h" + bytes([40]) + b"."


def torch_cases(canary):
    touch = f"touch {canary}"
    for module in ("os", "posix", "nt", "subprocess"):
        call = "system" if module != "subprocess" else "getoutput"
        yield f"{module}.{call}", torch_zip(b"\x80\x02c" + module.encode() + b"\n" + call.encode() + b"\n(" + string(touch) + b"tR.")
    yield "os.system as a tensor", torch_zip(state(("w", b"cos\nsystem\n(" + string(touch) + b"tR")))
    yield "os.system beside a tensor", torch_zip(state(("w", rebuilt()), ("epoch", b"cos\nsystem\n(" + string(touch) + b"tR")))
    yield "os.system by INST", torch_zip(b"\x80\x02(" + string(touch) + b"ios\nsystem\n.")
    yield "os.system by OBJ", torch_zip(b"\x80\x02(cos\nsystem\n" + string(touch) + b"o.")
    yield "os.system by STACK_GLOBAL", torch_zip(b"\x80\x04\x8c\x02os\x8c\x06system\x93(" + string(touch) + b"tR.")
    yield "os.system through _rebuild_from_type_v2", torch_zip(state(("w", b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nctorch\nTensor\n(" + string(touch) + b"t}tR")))
    yield "os.system as a persistent id", torch_zip(state(("w", b"cos\nsystem\n(" + string(touch) + b"tRQ")))
    yield "os.system by BUILD", torch_zip(state(("w", b"ccollections\nOrderedDict\n)R}" + string("__setstate__") + b"cos\nsystem\nsb")))
    yield "builtins.eval", torch_zip(b"\x80\x02cbuiltins\neval\n(" + string(f"__import__('os').system('{touch}')") + b"tR.")
    yield "__builtin__.exec", torch_zip(b"\x80\x02c__builtin__\nexec\n(" + string(f"import os; os.system('{touch}')") + b"tR.")
    yield "torch.load in a pickle", torch_zip(b"\x80\x02ctorch.serialization\nload\n(" + string("/etc/passwd") + b"tR.")
    yield "numpy array", torch_zip(pickle.dumps({"w": np.zeros(4)}, protocol=2))
    yield "extension registry", torch_zip(b"\x80\x02\x82\x01.")
    yield "global with control characters", torch_zip(b"\x80\x02c\x1b[31mos\x07\nsystem\x1b[0m\n)R.")
    yield "global of a megabyte", torch_zip(b"\x80\x02c" + b"o" * MiB + b"\nsystem\n)R.")
    yield "memo bomb", torch_zip(memo_bomb())
    yield "memo bomb of dicts", torch_zip(dict_bomb())
    yield "dict that holds itself", torch_zip(b"\x80\x02}q\0" + string("model") + b"h\0s.")
    yield "tuple of a list that holds it", torch_zip(b"\x80\x02]q\0h\0\x85a.")
    yield "string of 4 GiB", torch_zip(b"\x80\x02X\xff\xff\xff\xffabc.")
    yield "string of 2^63", torch_zip(b"\x80\x04\x8d" + struct.pack("<Q", 1 << 63) + b"abc.")
    yield "bytes of 2^62", torch_zip(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"abc.")
    yield "bytearray of 2^62", torch_zip(b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b"abc.")
    yield "LONG4 of 2 GiB", torch_zip(b"\x80\x02\x8b\xff\xff\xff\x7fabc.")
    yield "LONG4 negative", torch_zip(b"\x80\x02\x8b\xff\xff\xff\xffabc.")
    yield "frame of 2^63", torch_zip(b"\x80\x04\x95" + struct.pack("<Q", 1 << 63) + b"}.")
    yield "memo index 2^32-1", torch_zip(b"\x80\x02}r\xff\xff\xff\xff.")
    yield "get of a memo that is not there", torch_zip(b"\x80\x02h\x05.")
    yield "half a million open marks", torch_zip(b"\x80\x02" + b"(" * 500_000 + b".")
    yield "lists nested 500000 deep", torch_zip(b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + b".")
    yield "tuples nested 500000 deep", torch_zip(b"\x80\x02)" + b"\x85" * 500_000 + b".")
    yield "stack underflow", torch_zip(b"\x80\x02aaaa.")
    yield "no STOP", torch_zip(b"\x80\x02}")
    yield "unknown opcode", torch_zip(b"\x80\x02\xfe.")
    yield "protocol 99", torch_zip(b"\x80\x63}.")
    yield "digits by the megabyte", torch_zip(b"\x80\x02I" + b"9" * MiB + b"\n.")
    yield "no tensors", torch_zip(b"\x80\x02}.")
    yield "a number", torch_zip(b"\x80\x02K\1.")
    yield "numel 2^62", torch_zip(state(("w", rebuilt(storage(numel=1 << 62), size=(1 << 62,), stride=(1,)))))
    yield "numel beyond the entry", torch_zip(state(("w", rebuilt(storage(numel=1 << 20), size=(1 << 20,), stride=(1,)))))
    yield "negative numel", torch_zip(state(("w", rebuilt(storage(numel=-4)))))
    yield "size beyond the storage", torch_zip(state(("w", rebuilt(size=(4, 4), stride=(4, 1)))))
    yield "offset beyond the storage", torch_zip(state(("w", rebuilt(offset=1))))
    yield "offset overflows", torch_zip(state(("w", rebuilt(offset=(1 << 63) - 2))))
    yield "negative offset", torch_zip(state(("w", rebuilt(offset=-2))))
    yield "stride overflows", torch_zip(state(("w", rebuilt(stride=((1 << 62) + 1, 1 << 62)))))
    yield "negative stride", torch_zip(state(("w", rebuilt(offset=3, stride=(-2, -1)))))
    yield "negative size", torch_zip(state(("w", rebuilt(size=(-2, -2)))))
    yield "size overflows", torch_zip(state(("w", rebuilt(size=(1 << 32, 1 << 32), stride=(0, 0)))))
    yield "sizes and strides differ in number", torch_zip(state(("w", rebuilt(size=(2, 2), stride=(1,)))))
    yield "a thousand dimensions of 2", torch_zip(state(("w", rebuilt(size=(2,) * 1000, stride=(0,) * 1000))))
    yield "storage key that leaves", torch_zip(state(("w", rebuilt(storage(key="../../etc/passwd")))))
    yield "storage that is not there", torch_zip(state(("w", rebuilt(storage(key="7")))))
    yield "complex storage", torch_zip(state(("w", rebuilt(storage(cls="ComplexFloatStorage", numel=1), size=(1,), stride=(1,)))))
    yield "quantized storage", torch_zip(state(("w", rebuilt(storage(cls="QInt8Storage")))))
    yield "storage on meta", torch_zip(state(("w", rebuilt(storage(location="meta")))), {"1": b""})
    yield "conjugated tensor", torch_zip(state(("w", rebuilt(tail=b"}" + string("conj") + b"\x88s"))))
    yield "name twice", torch_zip(state(("w", rebuilt()), ("w", rebuilt())))
    yield "name that is a number", torch_zip(b"\x80\x02}(K\1" + rebuilt() + b"u.")

    pkl = state(("w", rebuilt()))
    yield "zip without data.pkl", zip_of({"archive/data/0": bytes(8), "archive/version": b"3\n"})
    yield "zip with compressed entries", zip_of({"archive/data.pkl": pkl, "archive/data/0": bytes(8)}, zipfile.ZIP_DEFLATED)
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    squeezed = bomb.compress(bytes(64 * MiB)) + bomb.flush()
    yield "zip bomb", raw_zip([("archive/data.pkl", None, 0, 0, len(pkl), pkl), ("archive/data/0", None, 8, 0, 64 * MiB, squeezed)])
    yield "zip: entry larger than the file", raw_zip([("archive/data.pkl", None, 0, 0, len(pkl), pkl), ("archive/data/0", None, 0, 0, 1 << 31, bytes(8))])
    yield "zip: pickle larger than the file", raw_zip([("archive/data.pkl", None, 0, 0, 0xFFFFFFF0, pkl), ("archive/data/0", None, 0, 0, 8, bytes(8))])
    yield "zip: local header out of the file", raw_zip([("archive/data.pkl", None, 0, 0, len(pkl), pkl), ("archive/data/0", 1 << 30, 0, 0, 8, bytes(8))])
    yield "zip: two entries in one place", raw_zip([("archive/data.pkl", None, 0, 0, len(pkl), pkl), ("archive/data/0", None, 0, 0, 8, bytes(8)), ("archive/data/1", 0, 0, 0, 8, bytes(8))])
    yield "zip: storage overlaps the pickle", raw_zip([("archive/data.pkl", None, 0, 0, len(pkl), pkl), ("archive/data/0", 0, 0, 0, 8, bytes(8))])
    yield "zip: entry runs into the next", raw_zip([("archive/data.pkl", None, 0, 0, len(pkl), pkl), ("archive/data/0", None, 0, 0, 60, bytes(8)), ("archive/data/1", None, 0, 0, 64, bytes(64))])
    yield "zip: entry runs into the directory", raw_zip([("archive/data.pkl", None, 0, 0, len(pkl), pkl), ("archive/data/0", None, 0, 0, 40, bytes(8))])
    yield "zip: encrypted", raw_zip([("archive/data.pkl", None, 0, 1, len(pkl), pkl), ("archive/data/0", None, 0, 1, 8, bytes(8))])
    yield "zip: name twice", raw_zip([("archive/data.pkl", None, 0, 0, len(pkl), pkl), ("archive/data/0", None, 0, 0, 8, bytes(8)), ("archive/data/0", None, 0, 0, 8, bytes(8))])
    yield "zip: big endian", zip_of({"archive/data.pkl": pkl, "archive/byteorder": b"big", "archive/data/0": bytes(8)})
    whole = torch_zip(pkl)
    yield "zip without its end", whole[:-22]
    yield "half a zip", whole[: len(whole) // 2]
    yield "TorchScript archive", zip_of({"archive/data.pkl": pkl, "archive/constants.pkl": b"\x80\x02).", "archive/code/__torch__.py": b"", "archive/data/0": bytes(8)})

    with tempfile.NamedTemporaryFile() as f:
        torch.save(good_state(), f.name, _use_new_zipfile_serialization=False)
        with open(f.name, "rb") as g:
            legacy = g.read()
    yield "legacy: truncated", legacy[:-100]
    yield "legacy: half", legacy[: len(legacy) // 2]
    magic = b"\x80\x02" + b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    info = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}, protocol=2)
    version = b"\x80\x02M\xe9\x03."
    old = b"(" + string("storage") + b"ctorch\nBFloat16Storage\n" + string("0") + string("cpu") + number(4) + b"NtQ"
    keys = pickle.dumps(["0"], protocol=2)
    yield "legacy: numel 2^62", magic + version + info + state(("w", rebuilt(old))) + keys + struct.pack("<q", 1 << 62) + bytes(8)
    yield "legacy: negative numel", magic + version + info + state(("w", rebuilt(old))) + keys + struct.pack("<q", -1) + bytes(8)
    yield "legacy: os.system", magic + version + info + b"\x80\x02cos\nsystem\n(" + string(touch) + b"tR." + keys
    yield "legacy: os.system in the keys", magic + version + info + state(("w", rebuilt(old))) + b"\x80\x02cos\nsystem\n(" + string(touch) + b"tR."
    yield "legacy: protocol 1002", magic + b"\x80\x02M\xea\x03." + info + state(("w", rebuilt(old))) + keys
    yield "bare pickle with os.system", b"\x80\x02cos\nsystem\n(" + string(touch) + b"tR."
    yield "tar of torch 0.1", (b"sys_info" + bytes(92) + b"0000644\0" + bytes(149) + b"ustar\0" + b"00" + bytes(247)).ljust(10240, b"\0")
    yield "safetensors under this name, truncated", good_file()[:-10]
    yield "empty .bin", b""


# --- directories -----------------------------------------------------------


def directory_cases(outside):
    """(label, function that fills an existing folder)."""

    def index(weight_map, shards=None, raw=None, index_name="model.safetensors.index.json"):
        def make(d):
            for name, state_dict in (shards or {}).items():
                save_file(state_dict, os.path.join(d, name), metadata={"format": "pt"})
            text = raw if raw is not None else json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map})
            put(os.path.join(d, index_name), text if isinstance(text, bytes) else text.encode())
            write_config(d)

        return make

    full = good_state()
    one = {NAMES[0]: full[NAMES[0]]}
    rest = {k: full[k] for k in NAMES[1:]}
    shard = {"model-00001-of-00002.safetensors": one}
    to = lambda file: index({NAMES[0]: "model-00001-of-00002.safetensors", NAMES[1]: file, NAMES[2]: file}, shard)

    yield "index leaves by ../../", to("../../" + os.path.basename(outside))
    yield "index leaves by ../", to("../" + os.path.basename(outside))
    yield "index leaves by a/../../", to("a/../../" + os.path.basename(outside))
    yield "index names an absolute path", to(outside)
    yield "index names a Windows path", to("..\\x.safetensors")
    yield "index names the folder", to(".")
    yield "index names nothing", to("")
    yield "index names with NUL", to("a\0b.safetensors")
    yield "index names with an escape sequence", to("\x1b[2Jx.safetensors")
    yield "index names with a turn of direction", to("\u202ex.safetensors")
    yield "index names a missing shard", to("model-00002-of-00002.safetensors")
    yield "index is not JSON", index({}, shard, raw="{")
    yield "index is an array", index({}, shard, raw="[]")
    yield "weight_map is an array", index({}, shard, raw='{"weight_map":[]}')
    yield "weight_map holds numbers", index({}, shard, raw='{"weight_map":{"a":1}}')
    yield "weight_map is missing", index({}, shard, raw='{"metadata":{}}')
    yield "index nests 200000 arrays", index({}, shard, raw='{"metadata":' + "[" * 200_000 + "]" * 200_000 + ',"weight_map":{}}')
    yield "tensor is not in its shard", index({NAMES[0]: "a.safetensors", NAMES[1]: "a.safetensors", NAMES[2]: "b.safetensors"}, {"a.safetensors": one, "b.safetensors": rest})
    yield "tensor is in two shards", index({NAMES[0]: "a.safetensors", NAMES[1]: "b.safetensors", NAMES[2]: "b.safetensors"}, {"a.safetensors": one, "b.safetensors": {**rest, **one}})
    yield "torch index leaves", index({NAMES[0]: "../../" + os.path.basename(outside)}, index_name="pytorch_model.bin.index.json")

    def link(target, name="model.safetensors", config=True):
        def make(d):
            os.symlink(target, os.path.join(d, name))
            if config:
                write_config(d)

        return make

    yield "weights are a link out", link(outside)
    yield "weights are a relative link out", link("../" + os.path.basename(outside))
    yield "weights are a link to /dev/zero", link("/dev/zero")
    yield "weights are a dangling link", link("nothing.safetensors")
    yield "weights are a link to themselves", link("model.safetensors")

    def shard_link(d):
        to("model-00002-of-00002.safetensors")(d)
        os.symlink(outside, os.path.join(d, "model-00002-of-00002.safetensors"))

    yield "a shard is a link out", shard_link

    def weights_directory(d):
        os.mkdir(os.path.join(d, "model.safetensors"))
        write_config(d)

    yield "weights are a folder", weights_directory

    def fifo(name):
        def make(d):
            if name != "model.safetensors":
                save_file(full, os.path.join(d, "model.safetensors"), metadata={"format": "pt"})
            if name != "config.json":
                write_config(d)
            os.mkfifo(os.path.join(d, name))

        return make

    yield "weights are a FIFO", fifo("model.safetensors")
    yield "config.json is a FIFO", fifo("config.json")

    def with_config(text):
        def make(d):
            save_file(full, os.path.join(d, "model.safetensors"), metadata={"format": "pt"})
            put(os.path.join(d, "config.json"), text)

        return make

    yield "config.json is not JSON", with_config(b"{'architectures': }")
    yield "config.json is empty", with_config(b"")
    yield "config.json is an array", with_config(b"[]")
    yield "config.json is null", with_config(b"null")
    yield "config.json nests 200000 arrays", with_config(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}")
    yield "config.json with something after", with_config(json.dumps(CONFIG).encode() + b"}")
    yield "empty folder", lambda d: None
    yield "only a config.json", write_config
    yield "only an adapter", lambda d: put(os.path.join(d, "adapter_model.safetensors"), good_file())

    def config_link(d):
        save_file(full, os.path.join(d, "model.safetensors"), metadata={"format": "pt"})
        os.symlink("/etc/passwd", os.path.join(d, "config.json"))

    yield "config.json is a link out", config_link


# Small files that must not be followed or waited for; only what copies them
# (extrapolate with this as the aligned side) has to refuse or leave them out.
def small_file_cases(secret):
    def make(act):
        def fill(d):
            good_model_into(d)
            act(d)

        return fill

    yield "tokenizer.json is a link out", make(lambda d: os.symlink(secret, os.path.join(d, "tokenizer.json")))
    yield "a folder is a link out", make(lambda d: os.symlink(os.path.dirname(secret), os.path.join(d, "extra")))
    yield "tokenizer.json is a FIFO", make(lambda d: os.mkfifo(os.path.join(d, "tokenizer.json")))
    yield "a link to the folder itself", make(lambda d: os.symlink(".", os.path.join(d, "loop")))


def good_model_into(d):
    save_file(good_state(3), os.path.join(d, "model.safetensors"), metadata={"format": "pt"})
    write_config(d)


# --- running ---------------------------------------------------------------


def size_of(path):
    if os.path.isdir(path):
        return sum(size_of(os.path.join(path, n)) for n in os.listdir(path) if not os.path.islink(os.path.join(path, n)))
    return os.path.getsize(path) if os.path.isfile(path) else 0


class Checks:
    def __init__(self, expo, tmp, verbose, only):
        self.expo, self.tmp, self.verbose, self.only = expo, tmp, verbose, only
        self.runs = self.failed = self.peak = 0
        self.outs = os.path.join(tmp, "outs")
        os.mkdir(self.outs)
        self.out = os.path.join(self.outs, "out")
        self.canary = os.path.join(tmp, "canary")
        self.good = os.path.join(tmp, "good")
        good_model(self.good)

    def wanted(self, label):
        return not self.only or self.only in label

    def report(self, label, problems, r=None):
        self.runs += 1
        self.failed += bool(problems)
        if problems or self.verbose:
            print(f"{'FAIL' if problems else 'ok  '} {label}", flush=True)
        for p in problems:
            print(f"       {p}")
        if r is not None and (problems or self.verbose):
            if problems:
                print("       command: " + " ".join(r.args))
            for line in r.stderr.splitlines()[:6]:
                print("       | " + repr(line[:400])[1:-1])

    def output_problems(self, r, refused=True):
        """What is wrong with a run by its status and stderr."""
        problems = []
        text = r.stdout + r.stderr
        if r.status == "timeout":
            return ["did not end in time"]
        if refused and (r.status == 0 or not 1 <= r.status <= 5):
            problems.append(f"status {r.status}, want 1 to 5")
        for word in ("panic", "goroutine ", "SIGSEGV", "SIGBUS", "unexpected fault", "runtime error"):
            if word in text:
                problems.append(f"output contains {word!r}")
        # C0, C1, and what turns the direction of writing.
        control = sorted({c for c in text if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or c in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"})
        if control:
            problems.append(f"output contains control characters {control}")
        errors = [x for x in r.stderr.splitlines() if x.startswith("expo: error:")]
        if refused:
            if len(errors) != 1:
                problems.append(f"{len(errors)} lines begin with 'expo: error:', want 1")
            odd = [x for x in r.stderr.splitlines() if not x.startswith(("expo: ", "  "))]
            if odd:
                problems.append(f"stray lines on stderr: {odd[:2]}")
            if any(len(x) > 2000 for x in r.stderr.splitlines()):
                problems.append(f"an error line of {max(len(x) for x in r.stderr.splitlines())} characters")
        if os.path.exists(self.canary):
            problems.append("THE PICKLE RAN: the canary exists")
            os.remove(self.canary)
        return problems

    def memory_problems(self, r, size):
        if r.peak is None:
            return []
        self.peak = max(self.peak, r.peak)
        allowed = PEAK + 4 * size
        return [f"peak memory {r.peak / MiB:.0f} MiB, allowed {allowed / MiB:.0f}"] if r.peak > allowed else []

    def leftovers(self, own=None):
        """Empties the output's folder; all but the entry own is a problem."""
        left = os.listdir(self.outs)
        for name in left:
            p = os.path.join(self.outs, name)
            shutil.rmtree(p) if os.path.isdir(p) and not os.path.islink(p) else os.remove(p)
        left = [n for n in left if n != own]
        return [f"left in the output's folder: {left}"] if left else []

    def refuse(self, label, *args, size=0):
        r = self.expo.run(*args, timeout=15, measure=True)
        self.report(label, self.output_problems(r) + self.memory_problems(r, size) + self.leftovers(), r)

    def bad_model(self, label, folder, file=None):
        """All commands on a model that none of them may accept."""
        size = size_of(folder)
        extrapolate = ["extrapolate", "--alpha", "0.3", "-o", self.out]
        self.refuse(label + ": extrapolate, aligned", *extrapolate, "--sft", self.good, "--aligned", folder, size=size)
        self.refuse(label + ": extrapolate, sft", *extrapolate, "--sft", folder, "--aligned", self.good, size=size)
        self.refuse(label + ": diff", "diff", "--sft", self.good, "--aligned", folder, size=size)
        self.refuse(label + ": inspect", "inspect", folder, size=size)
        self.refuse(label + ": verify", "verify", folder, size=size)
        if file:
            self.refuse(label + ": inspect the file", "inspect", file, size=size)

    def files(self, kind, name, cases):
        for label, data in cases:
            label = f"{kind}: {label}"
            if not self.wanted(label):
                continue
            folder = os.path.join(self.tmp, "bad")
            os.mkdir(folder)
            write_config(folder)
            put(os.path.join(folder, name), data)
            self.bad_model(label, folder, os.path.join(folder, name))
            shutil.rmtree(folder)

    def directories(self, cases):
        parent = os.path.join(self.tmp, "a", "b")
        os.makedirs(parent)
        for label, fill in cases:
            label = f"folder: {label}"
            if not self.wanted(label):
                continue
            folder = os.path.join(parent, "bad")
            os.mkdir(folder)
            fill(folder)
            self.bad_model(label, folder)
            shutil.rmtree(folder)

    def small_files(self, cases, secret):
        for label, fill in cases:
            label = f"small file: {label}"
            if not self.wanted(label):
                continue
            folder = os.path.join(self.tmp, "bad")
            os.mkdir(folder)
            fill(folder)
            r = self.expo.run("extrapolate", "--sft", self.good, "--aligned", folder, "--alpha", "0.3", "-o", self.out, timeout=15, measure=True)
            problems = self.output_problems(r, refused=r.status != 0)
            if os.path.isdir(self.out):
                for at, _, names in os.walk(self.out):
                    for n in names:
                        with open(os.path.join(at, n), "rb") as f:
                            if b"SECRET" in f.read():
                                problems.append(f"{n} of the output holds what the link led to")
                self.leftovers()
            self.report(label, problems + self.leftovers(), r)
            shutil.rmtree(folder)


def with_nan(c):
    """NaN and infinite weights: carried, counted, reported, status 0."""
    label = "NaN and Inf are carried"
    if not c.wanted(label):
        return
    bad = os.path.join(c.tmp, "nan")
    good_model(bad, 5)
    s = good_state(5)
    s[NAMES[0]][3, 4] = float("nan")
    s[NAMES[0]][5, 6] = float("inf")
    s[NAMES[1]][7] = float("-inf")
    save_file(s, os.path.join(bad, "model.safetensors"), metadata={"format": "pt"})
    for side in ("aligned", "sft"):
        sft, aligned = (c.good, bad) if side == "aligned" else (bad, c.good)
        r = c.expo.run("extrapolate", "--sft", sft, "--aligned", aligned, "--alpha", "0.3", "-o", c.out, measure=True)
        problems = c.output_problems(r, refused=False) + c.memory_problems(r, size_of(bad))
        if r.status != 0:
            problems.append(f"status {r.status}, want 0")
        else:
            a, b, o = (load_file(os.path.join(d, "model.safetensors")) for d in (aligned, sft, c.out))
            for n in NAMES:
                x, y = a[n].float(), b[n].float()
                want = torch.where(x == y, x, x + 0.3 * (x - y)).bfloat16()
                same = (o[n].view(torch.int16) == want.view(torch.int16)) | (torch.isnan(o[n]) & torch.isnan(want))
                if not bool(same.all()):
                    problems.append(f"{n}: {int((~same).sum())} elements differ")
        low = r.stderr.lower()
        if "nan" not in low or "inf" not in low:
            problems.append("stderr does not mention NaN and infinities")
        c.report(f"{label} ({side})", problems + c.leftovers("out"), r)


def outputs(c):
    """Where the output goes."""
    sft, aligned = os.path.join(c.tmp, "s"), os.path.join(c.tmp, "t")
    good_model(sft, 1)
    good_model(aligned, 2)
    before = snapshot(c.tmp, (sft, aligned))
    base = ["extrapolate", "--sft", sft, "--aligned", aligned, "--alpha", "0.3"]

    def case(label, *args, cwd=None, own=None):
        label = "output: " + label
        if not c.wanted(label):
            c.leftovers()
            return
        r = c.expo.run(*args, timeout=60, cwd=cwd)
        problems = c.output_problems(r)
        if snapshot(c.tmp, (sft, aligned)) != before:
            problems.append("AN INPUT WAS CHANGED")
            for d, seed in ((sft, 1), (aligned, 2)):
                shutil.rmtree(d, ignore_errors=True)
                good_model(d, seed)
        stray = [n for n in os.listdir(c.tmp) if n.startswith(".")]
        if stray:
            problems.append(f"left beside the inputs: {stray}")
            for n in stray:
                shutil.rmtree(os.path.join(c.tmp, n))
        c.report(label, problems + c.leftovers(own), r)

    for force in ([], ["--force"]):
        mark = " with --force" if force else ""
        case("is the aligned model" + mark, *base, "-o", aligned, *force)
        case("is the SFT model" + mark, *base, "-o", sft, *force)
        case("is inside an input" + mark, *base, "-o", os.path.join(aligned, "out"), *force)
        case("is deep inside an input" + mark, *base, "-o", os.path.join(sft, "x", "y"), *force)
        case("holds the inputs" + mark, *base, "-o", c.tmp, *force)
        case("is an input by another spelling" + mark, *base, "-o", os.path.join(sft, "..", "t"), *force)
        case("is an input with a slash" + mark, *base, "-o", aligned + "/", *force)
        case("is the working folder, an input" + mark, *base, "-o", ".", *force, cwd=aligned)
        link = os.path.join(c.outs, "link")
        os.symlink(aligned, link)
        case("is a link to an input" + mark, *base, "-o", link, *force, own="link")
        os.symlink(c.tmp, link)
        case("is an input through a link in its path" + mark, *base, "-o", os.path.join(link, "t"), *force, own="link")
    file = os.path.join(c.outs, "file")
    put(file, b"precious")
    case("is a file", *base, "-o", file, own="file")
    put(file, b"precious")
    case("is a file with --force", *base, "-o", file, "--force", own="file")
    put(file, b"precious")
    case("is below a file", *base, "-o", os.path.join(file, "out"), own="file")
    case("is empty", *base, "-o", "")

    label = "output: exists, no --force"
    if c.wanted(label):
        good_model(c.out, 9)
        was = snapshot(c.outs, (c.out,))
        r = c.expo.run(*base, "-o", c.out)
        problems = c.output_problems(r)
        if snapshot(c.outs, (c.out,)) != was or len(os.listdir(c.outs)) != 1:
            problems.append("the existing output was touched")
        c.report(label, problems, r)
        r = c.expo.run(*base, "-o", c.out, "--force")
        problems = c.output_problems(r, refused=False)
        if r.status != 0 or snapshot(c.outs, (c.out,)) == was:
            problems.append(f"status {r.status}; with --force it was not replaced")
        if os.listdir(c.outs) != ["out"]:
            problems.append(f"left: {os.listdir(c.outs)}")
        c.report(label + ", then with it", problems, r)
        c.leftovers()

    label = "output: --force over a folder that is no model"
    if c.wanted(label):
        os.mkdir(c.out)
        put(os.path.join(c.out, "thesis.txt"), b"precious")
        r = c.expo.run(*base, "-o", c.out, "--force")
        problems = c.output_problems(r, refused=r.status != 0)
        if not os.path.exists(os.path.join(c.out, "thesis.txt")):
            problems.append("somebody's files are gone")
        c.report(label, problems, r)
        c.leftovers()

    label = "output: file size limit"
    if c.wanted(label):
        command = c.expo.command(*base, "-o", c.out)
        p = subprocess.run(["sh", "-c", 'ulimit -f 4; exec "$@"', "sh"] + command, capture_output=True, text=True, timeout=60)
        r = Run(command, p.returncode, p.stdout, p.stderr, 0, None)
        c.report(label, c.output_problems(r) + c.leftovers(), r)


def snapshot(base, folders):
    found = {}
    for folder in folders:
        for at, dirs, files in os.walk(folder):
            for n in files:
                p = os.path.join(at, n)
                with open(p, "rb") as f:
                    found[os.path.relpath(p, base)] = f.read()
            for n in dirs:
                found[os.path.relpath(os.path.join(at, n), base) + "/"] = None
    return found


def usage(c):
    base = ["extrapolate", "--sft", c.good, "--aligned", c.good]
    for args, status in (
        (base + ["--alpha", "nan", "-o", c.out], 2),
        (base + ["--alpha", "inf", "-o", c.out], 2),
        (base + ["--alpha", "1e400", "-o", c.out], 2),
        (base + ["--alpha", "x", "-o", c.out], 2),
        (base + ["--alpha", "0.3"], 2),
        (base + ["-o", c.out], 2),
        (base + ["--alpha", "0.3", "-o", c.out, "--rounding", "never"], 2),
        (base + ["--alpha", "0.3", "-o", c.out, "--dtype", "int4"], 2),
        (base + ["--alpha", "0.3", "-o", c.out, "--shard-size", "0"], 2),
        (base + ["--alpha", "0.3", "-o", c.out, "--shard-size", "-5GB"], 2),
        (base + ["--alpha", "0.3", "-o", c.out, "--shard-size", "99999999999999999999GB"], 2),
        (base + ["--alpha", "0.3", "-o", c.out, "--no-such-flag"], 2),
        (["extrapolate", "--aligned", c.good, "--alpha", "0.3", "-o", c.out], 2),
        (["no-such-command"], 2),
        (["inspect"], 2),
        (["inspect", c.good, c.good], 2),
        (["verify", os.path.join(c.tmp, "not-there")], None),
        (["inspect", os.path.join(c.tmp, "not-there")], None),
        (["diff", "--sft", c.good, "--aligned", os.path.join(c.tmp, "not-there")], None),
    ):
        label = "usage: " + " ".join(str(a).replace(c.tmp, "") for a in args)
        if not c.wanted(label):
            continue
        r = c.expo.run(*args, timeout=60)
        problems = c.output_problems(r)
        if status and r.status != status:
            problems.append(f"status {r.status}, want {status}")
        c.report(label, problems + c.leftovers(), r)


def incompatible(c):
    """Pairs that differ must end with status 3."""

    def pair(label, change, status=3):
        label = "incompatible: " + label
        if not c.wanted(label):
            return
        folder = os.path.join(c.tmp, "bad")
        os.mkdir(folder)
        s = good_state(4)
        change(s)
        save_file(s, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        write_config(folder)
        for side in ("aligned", "sft"):
            sft, aligned = (c.good, folder) if side == "aligned" else (folder, c.good)
            r = c.expo.run("extrapolate", "--sft", sft, "--aligned", aligned, "--alpha", "0.3", "-o", c.out, timeout=60)
            problems = c.output_problems(r)
            if r.status != status:
                problems.append(f"status {r.status}, want {status}")
            c.report(f"{label} ({side})", problems + c.leftovers(), r)
        shutil.rmtree(folder)

    pair("other shape", lambda s: s.update({NAMES[1]: torch.ones(33).bfloat16()}))
    pair("transposed shape", lambda s: s.update({NAMES[2]: s[NAMES[2]].T.contiguous()}))
    pair("tensor missing", lambda s: s.pop(NAMES[1]))
    pair("tensor added, its name hostile", lambda s: s.update({"\x1b[31mx\n\u202e": torch.ones(1).bfloat16()}))
    pair("no tensor in common", lambda s: (s.clear(), s.update({"x": torch.ones(2)})))
    pair("integers on one side", lambda s: s.update({NAMES[1]: torch.ones(32, dtype=torch.int32)}))

    def many(s):
        s.clear()
        s.update({f"model.layers.{i}.w": torch.ones(2) for i in range(5000)})

    pair("five thousand differences", many)


def big_pair(c, size):
    """A pair of size bytes each, one tensor of many rows."""
    sft, aligned = os.path.join(c.tmp, "big-s"), os.path.join(c.tmp, "big-t")
    rows = size // 8192
    for d, seed in ((sft, 1), (aligned, 2)):
        os.makedirs(d)
        torch.manual_seed(seed)
        w = (torch.randn(1, 4096) * 0.02).bfloat16().expand(rows, 4096).contiguous()
        save_file({f"model.layers.{i}.weight": x.clone() for i, x in enumerate(w.chunk(8))}, os.path.join(d, "model.safetensors"), metadata={"format": "pt"})
        put(os.path.join(d, "config.json"), b'{"model_type":"one_tensor","dtype":"bfloat16","tie_word_embeddings":true}')
    return sft, aligned


def two_at_once(c):
    label = "two runs to one target"
    if not c.wanted(label):
        return
    sft, aligned = big_pair(c, 200_000_000)
    command = ["extrapolate", "--sft", sft, "--aligned", aligned, "--alpha", "0.3"]
    reference = os.path.join(c.tmp, "reference")
    c.expo.must(*command, "-o", reference)
    want = snapshot(reference, (reference,))
    for force in ([], ["--force"]):
        for wait in (0, 0.02, 0.1):
            results = [None, None]

            def go(i):
                time.sleep(i * wait)
                results[i] = c.expo.run(*command, "-o", c.out, *force, timeout=120)

            threads = [threading.Thread(target=go, args=(i,)) for i in range(2)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            problems = []
            ok = [r for r in results if r.status == 0]
            if not ok or (len(ok) == 2 and not force):
                problems.append(f"statuses {[r.status for r in results]}, want one 0")
            for r in results:
                if r.status != 0:
                    problems += c.output_problems(r)
            if not os.path.isdir(c.out) or snapshot(c.out, (c.out,)) != want:
                problems.append("the target differs from a run alone")
            if os.listdir(c.outs) != ["out"]:
                problems.append(f"left: {os.listdir(c.outs)}")
            loser = next((r for r in results if r.status != 0), results[0])
            c.report(f"{label}, {wait} s apart {' '.join(force)}".rstrip(), problems, loser)
            c.leftovers()
    shutil.rmtree(reference)

    # An input that is cut short, replaced or removed while it is read.
    original = {d: open(os.path.join(d, "model.safetensors"), "rb").read() for d in (sft, aligned)}
    for action in ("truncated", "overwritten", "removed"):
        for delay in (0.01, 0.03, 0.06, 0.1):
            label = f"input {action} after {delay} s"
            path = os.path.join(aligned, "model.safetensors")
            p = subprocess.Popen(c.expo.command(*command, "-o", c.out), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            time.sleep(delay)
            if action == "truncated":
                os.truncate(path, 1_000_000)
            elif action == "overwritten":
                with open(path, "r+b") as f:
                    f.seek(100_000_000)
                    f.write(b"\x3f" * 50_000_000)
            else:
                os.remove(path)
            try:
                out, err = p.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                p.kill()
                out, err = p.communicate()
            r = Run(p.args, p.returncode, out.decode(), err.decode("utf-8", "backslashreplace"), 0, None)
            problems = c.output_problems(r, refused=r.status != 0)
            if r.status == 0 and snapshot(c.out, (c.out,)) != want:
                problems.append("status 0, but the target differs from that of the undisturbed inputs")
            c.report(f"{label} (status {r.status})", problems, r)
            c.leftovers()
            put(path, original[aligned])
    shutil.rmtree(sft)
    shutil.rmtree(aligned)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--expo", help="the program (default: built from this repository)")
    p.add_argument("--only", help="only the cases whose label holds this word")
    p.add_argument("-v", "--verbose", action="store_true", help="also the runs that are as they should be, with what they say")
    args = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    torch.set_num_threads(1)
    tmp = tempfile.mkdtemp(prefix="hostile-")
    try:
        c = Checks(Expo(args.expo, tmp), tmp, args.verbose, args.only)
        # What escaping paths lead to: a good shard, so that following them succeeds.
        outside = os.path.join(tmp, "a", "outside.safetensors")
        os.makedirs(os.path.dirname(outside), exist_ok=True)
        s = good_state()
        save_file({k: s[k] for k in NAMES[1:]}, outside, metadata={"format": "pt"})
        secret = os.path.join(tmp, "secrets", "secret.json")
        os.makedirs(os.path.dirname(secret))
        put(secret, b'{"key":"SECRET"}')

        c.files("safetensors", "model.safetensors", safetensors_cases())
        c.files("torch", "pytorch_model.bin", torch_cases(c.canary))
        c.directories(directory_cases(outside))
        c.small_files(small_file_cases(secret), secret)
        incompatible(c)
        with_nan(c)
        outputs(c)
        usage(c)
        two_at_once(c)
        print(f"{c.runs} runs, {c.failed} failed, largest peak memory {c.peak / MiB:.0f} MiB")
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    sys.exit(1 if c.failed else 0)


if __name__ == "__main__":
    main()
