#!/usr/bin/env python3
"""Compare `expo export --imatrix` with llama.cpp's llama-imatrix and llama-quantize.

The importance matrix that expo computes over a text is compared with the one that
llama-imatrix computes over the same text, column by column. Then both quantize with
expo's, and each tensor must have the same type, shape and bytes.

    pip install gguf==0.19.0
    cmake -B build llama.cpp && cmake --build build --target llama-imatrix llama-quantize
    scripts/against_imatrix.py MODEL TEXT --llama build/bin [--chunks N] [--types Q4_0,Q4_K_M]

With --exact the model is run in float32 by both, without flash attention and with
float32 keys and values: otherwise a model in bfloat16 is rounded in other places.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

import gguf
import numpy as np


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def compare_sums(ours, theirs):
    """The relative differences of all columns, and what only one file has."""
    a, b = tensors(ours), tensors(theirs)
    wrong = [f"only one file has {name}" for name in sorted(a.keys() ^ b.keys())]
    differences = []
    for name in sorted(a.keys() & b.keys()):
        x, y = a[name].data.astype(np.float64).ravel(), b[name].data.astype(np.float64).ravel()
        if x.shape != y.shape:
            wrong.append(f"{name}: {x.shape}, llama.cpp {y.shape}")
        elif name.endswith(".counts"):
            if not np.array_equal(x, y):
                wrong.append(f"{name}: {x}, llama.cpp {y}")
        else:
            differences.append(np.abs(x - y) / np.maximum(np.abs(y), 1e-30))
    return np.concatenate(differences), wrong


def compare_files(ours, theirs):
    a, b = tensors(ours), tensors(theirs)
    wrong = [f"only one file has {name}" for name in sorted(a.keys() ^ b.keys())]
    for name in sorted(a.keys() & b.keys()):
        x, y = a[name], b[name]
        if x.tensor_type != y.tensor_type or list(x.shape) != list(y.shape):
            wrong.append(f"{name}: {x.tensor_type.name} {list(x.shape)}, llama.cpp {y.tensor_type.name} {list(y.shape)}")
        elif not np.array_equal(x.data.reshape(-1).view(np.uint8), y.data.reshape(-1).view(np.uint8)):
            wrong.append(f"{name}: {x.tensor_type.name}: other bytes")
    return wrong, len(a)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("model", help="a model directory")
    args.add_argument("text")
    args.add_argument("--llama", required=True, help="directory of llama.cpp's programs")
    args.add_argument("--expo", default="expo", help="the program")
    args.add_argument("--chunks", type=int, default=8)
    args.add_argument("--context", type=int, default=512)
    args.add_argument("--types", default="Q4_0,Q4_1,Q5_0,Q5_1,Q4_K_S,Q4_K_M,Q5_K_S,Q5_K_M,Q6_K")
    args.add_argument("--exact", action="store_true")
    args.add_argument("--threads", type=int, default=os.cpu_count())
    args.add_argument("--dir", help="where files are written (default: a temporary directory)")
    o = args.parse_args()

    def run(*command):
        start = time.monotonic()
        done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise SystemExit(f"{command[0]} failed:\n{done.stdout.decode(errors='replace')[-2000:]}")
        return time.monotonic() - start

    with tempfile.TemporaryDirectory(dir=o.dir) as tmp:
        at = lambda name: os.path.join(tmp, name)
        model = o.model
        if o.exact:
            run(o.expo, "extrapolate", "--sft", model, "--aligned", model, "--alpha", 0, "--dtype", "f32", "-o", at("f32"), "-q")
            model = at("f32")
        run(o.expo, "export", model, "-o", at("full.gguf"), "--quant", "F32" if o.exact else "BF16")
        extra = ["-fa", "off", "-ctk", "f32", "-ctv", "f32"] if o.exact else []
        theirs = run(os.path.join(o.llama, "llama-imatrix"), "-m", at("full.gguf"), "-f", o.text, "-o", at("theirs.gguf"),
                     "--chunks", o.chunks, "-c", o.context, "-t", o.threads, *extra)
        ours = run(o.expo, "export", model, "-o", at("ours.Q4_0.gguf"), "--quant", "Q4_0", "--imatrix", o.text, "--imatrix-chunks", o.chunks,
                   "--imatrix-context", o.context, "--save-imatrix", at("ours.gguf"), "-j", o.threads)
        d, wrong = compare_sums(at("ours.gguf"), at("theirs.gguf"))
        print(f"{d.size} columns, relative difference: median {np.median(d):.2g}, 99 % below {np.quantile(d, 0.99):.2g}, largest {d.max():.2g}; "
              f"{ours:.1f} s with Q4_0, llama-imatrix {theirs:.1f} s")
        failed = bool(wrong)
        for line in wrong[:10]:
            print("       ", line)
        for kind in o.types.split(","):
            run(o.expo, "export", model, "-o", at("a.gguf"), "--quant", kind, "--imatrix", at("ours.gguf"), "--force", "-j", o.threads)
            run(os.path.join(o.llama, "llama-quantize"), "--imatrix", at("ours.gguf"), at("full.gguf"), at("b.gguf"), kind, o.threads)
            wrong, n = compare_files(at("a.gguf"), at("b.gguf"))
            print(f"{kind:7} {n - len(wrong)} of {n} tensors equal")
            for line in wrong[:10]:
                print("       ", line)
            failed |= bool(wrong)
        sys.exit(failed)


if __name__ == "__main__":
    main()
