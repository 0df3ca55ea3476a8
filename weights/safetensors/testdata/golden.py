# Makes golden.safetensors with the official writer.
# Tool: safetensors 0.8.0, torch 2.8.0, Python 3.11.
# Command: python golden.py golden.safetensors
#
# Byte j of the i-th tensor below is (31*i + 7*j + 1) mod 256, for BOOL its
# lowest bit. The test makes the same tensors. (Two F4 elements are one of
# torch, so that the file has the shape [1, 6] for [1, 3].)

import sys

import torch
from safetensors.torch import save_file

TENSORS = [
    ("model.layers.10.w", torch.bfloat16, [2, 3]),
    ("model.layers.2.w", torch.bfloat16, [3]),
    ("bool", torch.bool, [5]),
    ("f4", torch.float4_e2m1fn_x2, [1, 3]),
    ("u8", torch.uint8, [3]),
    ("i8", torch.int8, [1]),
    ("e5m2", torch.float8_e5m2, [2]),
    ("e4m3", torch.float8_e4m3fn, [2]),
    ("e8m0", torch.float8_e8m0fnu, [2]),
    ("e4m3fnuz", torch.float8_e4m3fnuz, [2]),
    ("e5m2fnuz", torch.float8_e5m2fnuz, [2]),
    ("i16", torch.int16, [2]),
    ("u16", torch.uint16, [2]),
    ("f16", torch.float16, [2]),
    ("i32", torch.int32, [2]),
    ("u32", torch.uint32, [2]),
    ("f32", torch.float32, [2, 2]),
    ("c64", torch.complex64, [1]),
    ("f64", torch.float64, [1]),
    ("i64", torch.int64, [1]),
    ("u64", torch.uint64, [1]),
    ("scalar", torch.float32, []),
    ("empty", torch.float32, [4, 0, 2]),
    ("", torch.uint8, [1]),
    ("a\x00\x01\x1f\x7f", torch.uint8, [1]),
    ('q"\\/\b\f\n\r\t', torch.uint8, [1]),
    ("<&>'", torch.uint8, [1]),
    ("\u00e9\u2028\ue000", torch.uint8, [1]),
    ("\U0001f600", torch.uint8, [1]),
]


def make(i, dtype, shape):
    n = dtype.itemsize
    for d in shape:
        n *= d
    data = [(31 * i + 7 * j + 1) % 256 for j in range(n)]
    if dtype == torch.bool:
        data = [b & 1 for b in data]
    return torch.tensor(data, dtype=torch.uint8).view(dtype).reshape(shape)


save_file(
    {name: make(i, dtype, shape) for i, (name, dtype, shape) in enumerate(TENSORS)},
    sys.argv[1],
    metadata={"format": "p\u00e9\n\x1b\u2029<t>"},
)
