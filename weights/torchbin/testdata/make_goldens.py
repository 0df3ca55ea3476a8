"""Writes the .bin files of this folder and goldens.json, what is in them.

Made with torch 2.8.0 and Python 3.11, from this folder:

    python make_goldens.py

The files of the legacy layout name storages by their address, so that a second
run gives other bytes; what goldens.json says of them stays the same.
"""

import argparse
import collections
import json
import os
import warnings

import numpy
import torch
from torch import nn

warnings.filterwarnings("ignore")
torch.manual_seed(1)
here = os.path.dirname(os.path.abspath(__file__))
goldens = []

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ", torch.float8_e8m0fnu: "F8_E8M0",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL",
}


def raw(t):
    t = t.detach()
    width = t.element_size()
    flat = torch.empty(t.shape, dtype=t.dtype)
    flat.copy_(t)
    if flat.numel() == 0:
        return ""
    data = flat.reshape(-1).view(torch.uint8).tolist()
    assert len(data) == width * t.numel()
    return bytes(data).hex()


def write(name, obj, tensors=None, skipped=(), error=None, **kwargs):
    torch.save(obj, os.path.join(here, name), **kwargs)
    entry = {"file": name}
    if error:
        entry["error"] = error
    else:
        tensors = obj if tensors is None else tensors
        entry["tensors"] = [
            {"name": k, "dtype": NAMES[t.dtype], "shape": list(t.shape), "hex": raw(t)}
            for k, t in tensors.items()
            if isinstance(t, torch.Tensor)
        ]
        entry["skipped"] = list(skipped)
    goldens.append(entry)


def both(stem, obj, **kwargs):
    write(stem + ".bin", obj, **kwargs)
    write(stem + "_legacy.bin", obj, _use_new_zipfile_serialization=False, **kwargs)


def bits(dtype, *shape):
    """Values of every byte pattern, also those that are not numbers."""
    n = 1
    for d in shape:
        n *= d
    width = torch.empty((), dtype=dtype).element_size()
    if dtype == torch.bool:
        return (torch.arange(n) % 3 == 0).reshape(shape)
    data = (torch.arange(n * width) * 37 + 5) % 251
    return data.to(torch.uint8).view(dtype).reshape(shape)


both("dtypes", {name: bits(d, 2, 3) for d, name in NAMES.items()})

w = bits(torch.bfloat16, 6, 4)
strided = {
    "transposed": w.T,
    "columns": bits(torch.float32, 5, 6)[:, 1:4],
    "every_third": bits(torch.int64, 10)[1::3],
    "permuted": bits(torch.uint8, 2, 3, 4).permute(2, 0, 1),
    "expanded_rows": bits(torch.float16, 3).expand(4, 3),
    "expanded_columns": bits(torch.float64, 3, 1).expand(3, 4),
    "expanded_scalar": torch.tensor(7, dtype=torch.int16).expand(2, 5),
    "diagonal": bits(torch.float32, 5, 5).diagonal(),
    "windows": bits(torch.int8, 9).unfold(0, 4, 2),
    "float8_transposed": bits(torch.float8_e4m3fn, 3, 5).T,
    "rows": w[2:5],
    "one_column": w[:, 2:3],
    "channels_last": bits(torch.float16, 2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
    "tail": bits(torch.uint16, 12)[7:],
}
both("strided", strided)

flat = bits(torch.bfloat16, 69)
shared = collections.OrderedDict()
shared["model.embed_tokens.weight"] = w
shared["lm_head.weight"] = w
shared["also"] = w.view(4, 6)
for i in range(64):
    shared[f"layers.{i}.bias"] = flat[i : i + 5]
both("shared", shared)

net = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.BatchNorm1d(2))
both("module_state", net.state_dict())

p = nn.Parameter(torch.arange(4.0).reshape(2, 2))
q = nn.Parameter(torch.arange(6.0).reshape(2, 3).T, requires_grad=False)
q.note = "an attribute"
t = torch.arange(3.0)
t.note = ["an attribute"]
both("parameters", {"plain": p, "with_state": q, "with_attributes": t})

optimizer = torch.optim.AdamW(net.parameters())
net(torch.randn(4, 3)).sum().backward()
optimizer.step()
state = net.state_dict()
both(
    "wrapped",
    {
        "epoch": 3,
        "state_dict": state,
        "optimizer": optimizer.state_dict(),
        "seen": {"a", "b"},
        "blob": b"\x00\x01",
        "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "best": float("inf"),
        "counts": collections.Counter("abca"),
        "default": collections.defaultdict(list, {"x": [1]}),
    },
    tensors=state,
    skipped=["epoch", "optimizer", "seen", "blob", "size", "dtype", "device", "best", "counts", "default"],
)

leftovers = {"w": torch.ones(2), "_extra_state": {"a": [1, 2]}, "step": 7, "none": None, 5: "five", (1, 2): 0}
both("leftovers", leftovers, skipped=["_extra_state", "step", "none", "5", "a tuple"])

both("protocol4", {"w": torch.arange(3.0), "x": torch.ones(2, dtype=torch.uint16)}, pickle_protocol=4)
both("protocol5", {"w": torch.arange(3.0), "n": 2**70, "b": bytearray(b"abc")}, pickle_protocol=5, skipped=["n", "b"])

both("small", {"scalar": torch.tensor(1.5), "empty": torch.empty(0), "empty_2d": torch.empty(3, 0, dtype=torch.bfloat16)})

b = torch.arange(8, dtype=torch.uint8)
write("reinterpreted.bin", {"bytes": b, "float8": b.view(torch.float8_e4m3fn)})

z = torch.arange(6.0).to(torch.complex64)
both("complex", {"w": torch.ones(1), "z": z}, error="z: data.pkl: |z: state: ")
both("negative", {"w": z.conj().imag}, error="marked as neg")
both("quantized", {"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)}, error="w: data.pkl: |w: state: ")
write("sparse.bin", {"w": torch.eye(2).to_sparse()}, error="is sparse")
write("meta.bin", {"w": torch.empty(2, device="meta")}, error="meta device")
write("namespace.bin", {"w": torch.ones(1), "args": argparse.Namespace(lr=1)}, error="refuses to load argparse.Namespace")
write("numpy_scalar.bin", {"w": torch.ones(1), "loss": numpy.float64(1)}, error="refuses to load numpy")
write("whole_module.bin", nn.Linear(1, 1), error="refuses to load torch.nn.modules.linear.Linear")


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


torch.jit.save(torch.jit.script(Double()), os.path.join(here, "torchscript.bin"))
goldens.append({"file": "torchscript.bin", "error": "TorchScript"})

with open(os.path.join(here, "goldens.json"), "w") as f:
    # One line a file.
    f.write("[\n" + ",\n".join(json.dumps(g, separators=(",", ":")) for g in goldens) + "\n]\n")
