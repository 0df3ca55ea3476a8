#!/usr/bin/env python3
"""Compares every element that expo writes with what PyTorch computes.

Requires: python3 with torch (2.8.0 was used), safetensors, numpy; Go, unless --expo
Command:  python3 scripts/against_torch.py [--expo PATH] [--elements N]

For each pair of dtypes in {bf16, f16, f32} two checkpoints of one tensor are
written: a half of uniformly random bit patterns, a half of weights that
differ by a few units in the last place, and among them zeros, infinities,
NaNs, subnormals and ties. expo extrapolates them for each output dtype, and
the result is compared bit by bit; NaN only by being NaN. The references are

    once:    a, s = aligned.float(), sft.float()
             torch.where(a == s, a, a + alpha * (a - s)).to(out)
    per-op:  a, s = aligned.bfloat16(), sft.bfloat16()
             a + alpha * (a - s)

alpha = 0 must give the aligned bytes, those of NaN included. Prints a table; exit status 1 if any
element differs.
"""

import argparse
import json
import math
import os
import shutil
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from expo_command import Expo

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
NAMES = {BF16: "bf16", F16: "f16", F32: "f32"}
CONFIG = {BF16: "bfloat16", F16: "float16", F32: "float32"}
BITS = {BF16: torch.int16, F16: torch.int16, F32: torch.int32}
COLUMNS = 4096


def random_bits(n, dtype, g):
    raw = torch.randint(0, 256, (n * dtype.itemsize,), dtype=torch.uint8, generator=g)
    return raw.view(dtype)


def weights(a, s, n, g):
    """Pairs as preference training leaves them: a few ulp apart, a fifth of them equal."""
    w = torch.randn(n, generator=g) * 0.02
    if a == s:
        w = w.to(a)
        step = torch.randint(-6, 7, (n,), generator=g, dtype=torch.int32)
        step[torch.rand(n, generator=g) < 0.2] = 0
        return (w.view(BITS[a]) + step.to(BITS[a])).view(a), w
    delta = torch.randn(n, generator=g) * 1e-4
    delta[torch.rand(n, generator=g) < 0.2] = 0
    return (w + delta).to(a), w.to(s)


def specials(dtype):
    fi = torch.finfo(dtype)
    v = [0.0, fi.smallest_normal, fi.max, 1.0, 1 + fi.eps, 1 - fi.eps / 2, 0.5, 3.0, 0.02, 65504.0, 65520.0, 6e-8, math.inf, math.nan]
    vals = torch.tensor(v + [-x for x in v], dtype=torch.float64).to(dtype)
    inf = vals[12:13].view(BITS[dtype]).item()
    tiny = vals[1:2].view(BITS[dtype]).item()
    bits = torch.tensor([1, tiny - 1, inf - 2, inf + 1, inf + 5], dtype=BITS[dtype])
    return torch.cat([vals.view(BITS[dtype]), bits]).view(dtype)


def make(a, s, n, seed):
    """(aligned, sft), n elements each, every special with every special at the end."""
    g = torch.Generator().manual_seed(seed)
    sa, ss = specials(a), specials(s)
    i, j = torch.meshgrid(torch.arange(len(sa)), torch.arange(len(ss)), indexing="ij")
    pa, ps = sa.view(BITS[a])[i.flatten()], ss.view(BITS[s])[j.flatten()]
    half = (n - len(pa)) // 2
    rest = n - len(pa) - half
    wa, ws = weights(a, s, rest, g)
    aligned = torch.cat([random_bits(half, a, g).view(BITS[a]), wa.view(BITS[a]), pa]).view(a)
    sft = torch.cat([random_bits(half, s, g).view(BITS[s]), ws.view(BITS[s]), ps]).view(s)
    return aligned, sft


def expected(aligned, sft, alpha, rounding, out):
    if alpha == 0 and rounding == "once":
        return aligned.to(out)
    if rounding == "per-op":
        a, s = aligned.to(BF16), sft.to(BF16)
        return (a + alpha * (a - s)).to(out)
    a, s = aligned.to(F32), sft.to(F32)
    r = torch.where(a == s, a, a + alpha * (a - s)).to(out)
    if aligned.dtype == out:
        r = torch.where(a == s, aligned.view(BITS[out]), r.view(BITS[out])).view(out)
    return r


def differences(got, want, exact):
    bits = got.view(BITS[got.dtype]) != want.view(BITS[want.dtype])
    if not exact:
        bits &= ~(torch.isnan(got) & torch.isnan(want))
    return torch.nonzero(bits).flatten()


def write_model(folder, tensor):
    os.makedirs(folder)
    save_file({"model.weight": tensor.reshape(-1, COLUMNS)}, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"architectures": ["OneTensor"], "model_type": "one_tensor", "dtype": CONFIG[tensor.dtype]}, f)


def read_model(folder):
    with safe_open(os.path.join(folder, "model.safetensors"), framework="pt") as f:
        assert list(f.keys()) == ["model.weight"], list(f.keys())
        return f.get_tensor("model.weight").flatten()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--expo", help="the program (default: built from this repository)")
    p.add_argument("--elements", type=int, default=10_000_000, help="at least so many per tensor")
    p.add_argument("--alphas", type=lambda t: [float(x) for x in t.split(",")], default=[-1.0, 0.0, 0.1, 0.3, 1 / 3, 0.5, 1.0, 2.5])
    p.add_argument("--pairs", help="only these pairs, as in bf16/f16,f32/f32 (aligned/SFT)")
    p.add_argument("--dir", help="where the temporary folder is made")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    n = -(-args.elements // COLUMNS) * COLUMNS
    failed = runs = total = 0
    tmp = tempfile.mkdtemp(prefix="against-torch-", dir=args.dir)
    try:
        expo = Expo(args.expo, tmp)
        print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {n} elements per run, seed {args.seed}")
        print(f"{'aligned':8} {'sft':5} {'out':5} {'rounding':9} {'alpha':>8} {'elements':>10} {'differences':>11}")
        for i, (a, s) in enumerate([(a, s) for a in NAMES for s in NAMES]):
            if args.pairs and f"{NAMES[a]}/{NAMES[s]}" not in args.pairs.split(","):
                continue
            aligned, sft = make(a, s, n, args.seed * 100 + i)
            da, ds, do = (os.path.join(tmp, x) for x in ("aligned", "sft", "out"))
            write_model(da, aligned)
            write_model(ds, sft)
            for rounding, outs in (("once", list(NAMES)), ("per-op", [BF16])):
                for out in outs:
                    for alpha in args.alphas:
                        command = ["extrapolate", "--sft", ds, "--aligned", da, "--alpha", repr(alpha), "--rounding", rounding, "--allow-overflow", "-o", do]
                        if rounding == "once" and out != a:
                            command += ["--dtype", NAMES[out]]
                        expo.must(*command)
                        got = read_model(do)
                        shutil.rmtree(do)
                        if got.dtype != out:
                            sys.exit(f"{command}: wrote {got.dtype}, want {out}")
                        want = expected(aligned, sft, alpha, rounding, out)
                        copied = alpha == 0 and rounding == "once" and out == a
                        wrong = differences(got, want, exact=copied)
                        runs, total, failed = runs + 1, total + n, failed + (len(wrong) > 0)
                        print(f"{NAMES[a]:8} {NAMES[s]:5} {NAMES[out]:5} {rounding:9} {alpha:8.5g} {n:10} {len(wrong):11}", flush=True)
                        for k in wrong[:5].tolist():
                            print(f"    element {k}: aligned {aligned[k].item()!r} sft {sft[k].item()!r} expo {got[k].item()!r} torch {want[k].item()!r}")
            shutil.rmtree(da)
            shutil.rmtree(ds)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    print(f"{runs} runs, {total} elements, {failed} runs with differences")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
