#!/usr/bin/env python3
"""Writes goldens.bin.gz: float32 values, the blocks that ggml makes of them,
digests of what ggml makes of the blocks again, and the blocks that it makes of rows
of values whose columns have an importance.

    python make_goldens.py [-n SUPERBLOCKS] [-o FILE]

needs numpy and a libggml-base.so compiled without fused multiply-add, such as the
one in the wheel llama-cpp-python 0.3.36 (which is found when it is installed; name
another with --ggml). The file is one line of JSON and then the bytes it points
into. `go test -goldens FILE` reads another file than the one in this folder.
"""

import argparse
import ctypes
import gzip
import hashlib
import io
import json
import os

import numpy as np

# name, ggml's number, elements and bytes of a block, offsets of F16 values
FORMATS = [
    ("Q4_0", 2, 32, 18, [0]),
    ("Q4_1", 3, 32, 20, [0, 2]),
    ("Q5_0", 6, 32, 22, [0]),
    ("Q5_1", 7, 32, 24, [0, 2]),
    ("Q8_0", 8, 32, 34, [0]),
    ("Q4_K", 12, 256, 144, [0, 2]),
    ("Q5_K", 13, 256, 176, [0, 2]),
    ("Q6_K", 14, 256, 210, [208]),
]


def library(path):
    if path is None:
        import llama_cpp

        path = os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so")
    lib = ctypes.CDLL(path)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    return lib


def values(rng, n):
    """n super-blocks of 256, of different kinds."""
    x = np.zeros((n, 256), np.float32)
    for i in range(n):
        kind = i % 16
        v = rng.standard_normal(256) * 0.02
        if kind == 1:
            v = rng.uniform(-1, 1, 256)
        elif kind == 2:
            v[rng.integers(0, 256, 4)] *= 50
        elif kind == 3:
            v = np.abs(v)
        elif kind == 4:
            v = -np.abs(v) - 0.1
        elif kind == 5:
            v *= 1e-6
        elif kind == 6:
            v *= 10.0 ** -rng.uniform(8, 44)
        elif kind == 7:
            v = np.zeros(256)
            v[rng.integers(0, 256, 3)] = rng.standard_normal(3)
        elif kind == 8:
            v = np.repeat(rng.standard_normal(8), 32)
        elif kind == 9:
            v = rng.integers(-8, 9, 256) / 8.0
        elif kind == 10:
            v = rng.integers(-255, 256, 256) / 2.0
        elif kind == 11:
            v *= np.repeat(10.0 ** -rng.uniform(0, 20, 16), 16)
        elif kind == 12:
            v *= 10.0 ** rng.uniform(0, 5)
        elif kind == 13:
            v = v + 3.0
        elif kind == 14:
            v = rng.standard_t(2, 256) * 0.02
        elif kind == 15:
            v = v * np.repeat(rng.integers(0, 2, 8), 32)
        x[i] = v.astype(np.float32)
    return x


def rows(rng, n):
    """Matrices of n super-blocks together, and an importance of their columns."""
    done = 0
    for i in range(10**9):
        # Rows of whole super-blocks, but for every eighth matrix.
        columns = 32 * int(rng.integers(1, 24)) if i % 8 == 7 else 256 * int(rng.integers(1, 3))
        count = int(rng.integers(1, 3))
        size = -(-columns * count // 256)
        if done + size > n:
            return
        done += size
        x = values(rng, size).reshape(-1)[: columns * count].reshape(count, columns)
        if rng.integers(0, 8) == 0:
            with np.errstate(over="ignore"):
                x = np.clip(x * np.float32(10.0 ** rng.uniform(-38, 38)), -3.4e38, 3.4e38).astype(np.float32)
        kind = i % 16
        w = np.exp(rng.standard_normal(columns) * 1.5)
        if kind == 1:
            w = rng.uniform(0, 1, columns)
        elif kind == 2:
            w = 10.0 ** rng.uniform(-6, 3, columns)
        elif kind == 3:
            w *= rng.uniform(0, 1, columns) > 0.1
        elif kind == 4:
            w *= rng.uniform(0, 1, columns) > 0.9
        elif kind == 5:
            w *= 0
        elif kind == 6:
            w = np.ones(columns)
        elif kind == 7:
            w = np.full(columns, 1e-6)
        elif kind == 8:
            w *= np.repeat(rng.integers(0, 2, columns // 32), 32)
        elif kind == 9:
            w *= np.repeat(rng.integers(0, 2, columns // 16), 16)
        elif kind == 10:
            w *= 10.0 ** rng.uniform(-44, -20)
        elif kind == 11:
            w *= 10.0 ** rng.uniform(10, 36)
        elif kind == 12:
            w = np.square(x.astype(np.float64)).mean(axis=0)
        elif kind == 13:
            w[rng.integers(0, columns)] = 1e6
        elif kind == 14:
            w = rng.integers(0, 4, columns)
        yield x, np.clip(w, 0, 3.4e38).astype(np.float32)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=32)
    p.add_argument("-o", default=os.path.join(here, "goldens.bin.gz"))
    p.add_argument("--ggml")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    lib = library(a.ggml)
    rng = np.random.default_rng(a.seed)

    data = io.BytesIO()

    def put(b):
        at = data.tell()
        data.write(b)
        return at

    x = values(rng, a.n)
    cases = []
    for name, number, size, length, halves in FORMATS:
        n = x.size // size
        blocks = np.zeros((n, length), np.uint8)
        if lib.ggml_quantize_chunk(number, x.ctypes.data, blocks.ctypes.data, 0, n, size, None) != blocks.nbytes:
            raise SystemExit(name)

        # Blocks that no quantizer would make, with any finite scale.
        wild = rng.integers(0, 256, (max(4, n // 8), length), np.uint8)
        for at in halves:
            h = wild[:, at] | wild[:, at + 1].astype(np.uint16) << 8
            h = np.where(h & 0x7C00 == 0x7C00, h & 0x83FF, h).astype("<u2")
            wild[:, at : at + 2] = h.view(np.uint8).reshape(-1, 2)

        def back(b):
            out = np.zeros(len(b) * size, np.float32)
            row = getattr(lib, "dequantize_row_" + (name[:3] + "K" if name.endswith("K") else name.lower()).replace("Q", "q"))
            row(ctypes.c_void_p(b.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(out.size))
            return hashlib.sha256(out.astype("<f4").tobytes()).hexdigest()

        cases.append(
            {
                "format": name,
                "blocks": n,
                "blocks_at": put(blocks.tobytes()),
                "values": back(blocks),
                "wild": len(wild),
                "wild_at": put(wild.tobytes()),
                "wild_values": back(wild),
            }
        )
    elements_at = put(x.astype("<f4").tobytes())

    weighted = []
    for m, w in rows(rng, a.n):
        blocks_at = []
        for name, number, size, length, _ in FORMATS:
            if m.shape[1] % size:
                blocks_at.append(-1)
                continue
            blocks = np.zeros(m.size // size * length, np.uint8)
            if lib.ggml_quantize_chunk(number, m.ctypes.data, blocks.ctypes.data, 0, *m.shape, w.ctypes.data) != blocks.nbytes:
                raise SystemExit(name)
            blocks_at.append(put(blocks.tobytes()))
        weighted.append(
            {
                "rows": m.shape[0],
                "columns": m.shape[1],
                "elements_at": put(m.astype("<f4").tobytes()),
                "weights_at": put(w.astype("<f4").tobytes()),
                "blocks_at": blocks_at,
            }
        )
    header = {"elements": x.size, "elements_at": elements_at, "cases": cases, "weighted": weighted}
    with open(a.o, "wb") as f, gzip.GzipFile(filename="", mode="wb", fileobj=f, mtime=0, compresslevel=9) as z:
        z.write(json.dumps(header).encode() + b"\n" + data.getvalue())


main()
