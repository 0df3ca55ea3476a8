#!/usr/bin/env python3
"""Makes goldens.bin.gz: what PyTorch computes for theta + alpha*(theta - theta_sft).

Tool:     PyTorch 2.8.0 (CPU, x86-64 with AVX-512), Python 3.11
Command:  python3 internal/kernel/testdata/make_goldens.py
Output:   goldens.bin.gz beside this file, the same bytes on every run

The expected outputs come from torch's own element-wise operations. "once" is

    a, s = aligned.float(), sft.float()
    torch.where(a == s, a, a + alpha * (a - s)).to(out)

where elements with a == s keep the stored value when the dtype is kept, and
"per-op" is, with the plain formula for all elements,

    a, s = aligned.bfloat16(), sft.bfloat16()
    (a + alpha * (a - s)).to(out)

File: gzip of one line of JSON and raw little-endian arrays. Every "at" is an
offset from the byte after the line. The counts and sums in "stats" are
computed here with torch in float64 from the same arrays.
"""

import argparse
import gzip
import json
import math
import os
import struct

import torch

BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
NAMES = {BF16: "bf16", F16: "f16", F32: "f32", F64: "f64", E4M3: "f8e4m3", E5M2: "f8e5m2"}
BITS = {
    BF16: torch.int16,
    F16: torch.int16,
    F32: torch.int32,
    F64: torch.int64,
    E4M3: torch.uint8,
    E5M2: torch.uint8,
}
ALPHAS = [-1.0, -0.3, 0.1, 0.3, 1 / 3, 0.5, 1.0, 2.5]

# (aligned, sft, elements, {(out, rounding): alphas}); 0 in place of the alphas
# takes every second one from the first on, 1 the others.
CASES = [
    (BF16, BF16, 3000, {(BF16, "once"): ALPHAS, (BF16, "per-op"): ALPHAS, (F16, "once"): ALPHAS, (F32, "once"): 0, (F32, "per-op"): [0.3]}),
    (F16, F16, 2000, {(F16, "once"): ALPHAS, (BF16, "per-op"): 1, (BF16, "once"): 0, (F32, "once"): 1}),
    (F32, F32, 2000, {(F32, "once"): ALPHAS, (BF16, "per-op"): 0, (BF16, "once"): 1, (F16, "once"): 0}),
    (BF16, F16, 1000, {(BF16, "once"): 0, (F16, "once"): 1, (F32, "once"): 0, (BF16, "per-op"): 1}),
    (BF16, F32, 1000, {(BF16, "once"): 1, (F16, "once"): 0, (F32, "once"): 1, (BF16, "per-op"): 0}),
    (F16, BF16, 1000, {(F16, "once"): 0, (BF16, "once"): 1, (F32, "once"): 0, (BF16, "per-op"): 1}),
    (F16, F32, 1000, {(F16, "once"): 1, (BF16, "once"): 0, (F32, "once"): 1, (F16, "per-op"): 0}),
    (F32, BF16, 1000, {(F32, "once"): 0, (BF16, "once"): 1, (F16, "once"): 0, (BF16, "per-op"): 1}),
    (F32, F16, 1000, {(F32, "once"): 1, (BF16, "once"): 0, (F16, "once"): 1, (BF16, "per-op"): 0}),
    (F64, F64, 800, {(F64, "once"): 0, (F32, "once"): [0.3], (BF16, "once"): 1, (BF16, "per-op"): [0.3]}),
    (F64, F32, 500, {(F64, "once"): [0.3], (F32, "once"): [0.5]}),
    (BF16, F64, 500, {(BF16, "once"): [0.3, 0.5], (F64, "once"): [1 / 3]}),
    (E4M3, E4M3, 1500, {(BF16, "once"): 0, (F16, "once"): [0.3], (F32, "once"): [1 / 3], (BF16, "per-op"): 1}),
    (E5M2, E5M2, 1500, {(BF16, "once"): 0, (F16, "once"): [0.3], (F32, "once"): [1 / 3], (BF16, "per-op"): 1}),
    (BF16, E4M3, 800, {(BF16, "once"): [0.3, 0.5], (F16, "once"): [0.3]}),
    (E4M3, BF16, 800, {(BF16, "once"): [0.3, 0.5], (F32, "once"): [0.3]}),
    (E5M2, F16, 800, {(F16, "once"): [0.3, 0.5], (BF16, "per-op"): [0.3]}),
    (F32, E5M2, 800, {(F32, "once"): [0.3], (BF16, "once"): [0.3]}),
]


def random_bits(n, dtype, g):
    """n elements whose stored bits are uniform."""
    width = torch.empty(0, dtype=dtype).element_size()
    raw = torch.randint(0, 256, (n * width,), dtype=torch.uint8, generator=g)
    return raw.view(dtype)


def specials(dtype):
    """Zeros, infinities, NaNs, subnormals, the ends of the range, simple values."""
    if dtype in (E4M3, E5M2):
        return torch.arange(256, dtype=torch.uint8)[::11].contiguous().view(dtype)
    fi = torch.finfo(dtype)
    positive = [0.0, fi.smallest_normal, fi.max, 1.0, 1 + fi.eps, 1 - fi.eps / 2, 0.02, math.inf, math.nan]
    vals = torch.tensor(positive + [-v for v in positive], dtype=F64).to(dtype)
    # By bits: the smallest and largest subnormal, the value below the
    # largest, a signalling and a quiet NaN with payload.
    smallest_normal = vals[1:2].view(BITS[dtype])[0].item()
    largest = vals[2:3].view(BITS[dtype])[0].item()
    inf = vals[7:8].view(BITS[dtype])[0].item()
    bits = torch.tensor([1, smallest_normal - 1, largest - 1, inf + 1, inf + (inf & -inf) // 2 + 5], dtype=BITS[dtype])
    return torch.cat([vals, bits.view(dtype)])


def neighbours(n, dtype, g):
    """A weight drawn from N(0, 0.02) and the same moved by -6..6 ulp of dtype."""
    w = (torch.randn(n, generator=g) * 0.02).to(dtype)
    ulps = torch.randint(-6, 7, (n,), generator=g)
    moved = (w.view(BITS[dtype]).to(torch.int64) + ulps).to(BITS[dtype]).view(dtype)
    return w, moved


def near(a, s, n, g):
    """Pairs as preference training leaves them: SFT = w, aligned = w + a small delta."""
    if a == s:
        sft, aligned = neighbours(n, a, g)
        return aligned, sft
    w = torch.randn(n, generator=g, dtype=F64) * 0.02
    scale = 10.0 ** -(3 + 2 * torch.rand(n, generator=g, dtype=F64))
    delta = torch.randn(n, generator=g, dtype=F64) * scale
    return (w + delta).to(a), w.to(s)


def big_and_ties(a, s, n, g):
    """Sums near the overflow of f16 and bf16, subnormal results, exact halves."""
    k = n // 3
    x = torch.tensor([65504.0, 3.3e38, 6e-5, 2.0**-24, 2.0**-130])[torch.randint(0, 5, (k,), generator=g)].to(F64)
    x1 = x * (1 + 0.2 * torch.rand(k, generator=g, dtype=F64))
    x2 = x * (1 - 0.4 * torch.rand(k, generator=g, dtype=F64))
    # Small integers: their alpha = 0.5 and 1 results land on ties of bf16.
    m = n - k
    y1 = torch.randint(-2048, 2049, (m,), generator=g).to(F64)
    y2 = y1 + torch.randint(-3, 4, (m,), generator=g)
    return torch.cat([x1, y1]).to(a), torch.cat([x2, y2]).to(s)


def inputs(a, s, n, g):
    """n pairs: a third neighbours, a sixth bits, a sixth hard values, the rest specials."""
    parts = [near(a, s, n // 3, g)]
    parts.append((random_bits(n // 6, a, g), random_bits(n // 6, s, g)))
    parts.append(big_and_ties(a, s, n // 6, g))
    sa, ss = specials(a), specials(s)
    ia, js = torch.meshgrid(torch.arange(len(sa)), torch.arange(len(ss)), indexing="ij")
    rest = n - sum(len(p[0]) for p in parts)
    order = torch.randperm(ia.numel(), generator=g)[:rest].sort().values
    parts.append((take(sa, ia.flatten()[order]), take(ss, js.flatten()[order])))
    if len(order) < rest:
        same = random_bits(rest - len(order), a, g)
        parts.append((same, same if a == s else same.to(F32).to(s)))
    return cat([p[0] for p in parts]), cat([p[1] for p in parts])


def take(x, index):
    return x.view(BITS[x.dtype])[index].view(x.dtype)


def cat(xs):
    dtype = xs[0].dtype
    return torch.cat([x.contiguous().view(BITS[dtype]) for x in xs]).view(dtype)


def once(aligned, sft, out, alpha):
    a, s = aligned.to(F32), sft.to(F32)
    r = torch.where(a == s, a, a + alpha * (a - s)).to(out)
    if aligned.dtype == out:
        kept = torch.where(a == s, aligned.view(BITS[out]), r.view(BITS[out]))
        r = kept.view(out)
    return r


def per_op(aligned, sft, out, alpha):
    a, s = aligned.to(BF16), sft.to(BF16)
    return (a + alpha * (a - s)).to(out)


def stats(aligned, sft, out):
    a, s, o = aligned.to(F32), sft.to(F32), out.to(F32)
    d, step = a - s, o - a
    fin = torch.isfinite
    all_finite = fin(a) & fin(s) & fin(d) & fin(o)
    nan_in = torch.isnan(a) | torch.isnan(s)
    inf_in = ~nan_in & (torch.isinf(a) | torch.isinf(s))
    m = all_finite & fin(step)
    da, dd, ds = a[m].to(F64), d[m].to(F64), step[m].to(F64)
    return {
        "equal": int((a == s).sum()),
        "swallowed": int(((a != s) & all_finite & (o == a)).sum()),
        "nan": int(torch.isnan(o).sum()),
        "inf": int(torch.isinf(o).sum()),
        "input_nan": int(nan_in.sum()),
        "input_inf": int(inf_in.sum()),
        "overflow": int((fin(a) & fin(s) & ~fin(o)).sum()),
        "delta2": float((dd * dd).sum()),
        "aligned2": float((da * da).sum()),
        "step2": float((ds * ds).sum()),
        "step_delta": float((ds * dd).sum()),
        "step_delta_scale": float((ds * dd).abs().sum()),
    }


def raw(t):
    return t.contiguous().view(torch.uint8).numpy().tobytes()


def float32_bits(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-o", "--output", default=os.path.join(here, "goldens.bin.gz"))
    args = p.parse_args()
    torch.set_num_threads(1)
    data, cases = bytearray(), []

    def put(b):
        at = len(data)
        data.extend(b)
        return at

    for i, (a, s, n, outs) in enumerate(CASES):
        g = torch.Generator().manual_seed(1000 + i)
        aligned, sft = inputs(a, s, n, g)
        assert len(aligned) == len(sft) == n, (a, s, len(aligned), len(sft))
        case = {"aligned": NAMES[a], "sft": NAMES[s], "elements": n, "aligned_at": put(raw(aligned)), "sft_at": put(raw(sft)), "outputs": []}
        for (out, rounding), alphas in outs.items():
            if isinstance(alphas, int):
                alphas = ALPHAS[alphas::2]
            for alpha in alphas:
                f = once if rounding == "once" else per_op
                want = f(aligned, sft, out, alpha)
                assert want.dtype == out
                case["outputs"].append({
                    "out": NAMES[out],
                    "rounding": rounding,
                    "alpha": alpha,
                    "alpha_bits": float32_bits(alpha),
                    "at": put(raw(want)),
                    "stats": stats(aligned, sft, want),
                })
        cases.append(case)
    head = json.dumps({"torch": torch.__version__.split("+")[0], "cases": cases}, separators=(",", ":"))
    with open(args.output, "wb") as f:
        with gzip.GzipFile(filename="", fileobj=f, mode="wb", compresslevel=9, mtime=0) as z:
            z.write(head.encode() + b"\n" + bytes(data))
    elements = sum(c["elements"] * len(c["outputs"]) for c in cases)
    print(f"{args.output}: {os.path.getsize(args.output)} bytes, {elements} expected elements")


if __name__ == "__main__":
    main()
