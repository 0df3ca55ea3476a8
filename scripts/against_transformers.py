#!/usr/bin/env python3
"""Extrapolates small models made by transformers and loads the result with it.

Requires: python3 with torch (2.8.0), transformers (5.23.0), safetensors; Go, unless --expo
Command:  python3 scripts/against_transformers.py [--expo PATH]

Pairs of tiny random Llama, Qwen2, Mistral and GPT-2 models, tied and untied,
are saved as one safetensors file, as shards, and as torch files of both
layouts. For each, expo writes the extrapolated model; a fresh process loads
it with AutoModelForCausalLM and must find no missing, unexpected or
mismatched parameter and finite logits; every parameter must equal, bit by
bit, what this program computes from the two models with PyTorch. The small
files must be the aligned model's.

Prints a line per pair; exit status 1 if any fails.
"""

import argparse
import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback

import torch
import transformers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config

from expo_command import Expo

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
NAMES = {BF16: "bf16", F16: "f16", F32: "f32"}

SHAPE = dict(vocab_size=160, hidden_size=64, intermediate_size=112, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0)
CONFIGS = {
    "llama": lambda: LlamaConfig(tie_word_embeddings=False, **SHAPE),
    "llama-tied": lambda: LlamaConfig(tie_word_embeddings=True, **SHAPE),
    "llama-12-layers": lambda: LlamaConfig(tie_word_embeddings=False, **{**SHAPE, "num_hidden_layers": 12}),
    "qwen2": lambda: Qwen2Config(tie_word_embeddings=False, **SHAPE),
    "qwen2-tied": lambda: Qwen2Config(tie_word_embeddings=True, **SHAPE),
    "mistral": lambda: MistralConfig(tie_word_embeddings=False, sliding_window=32, **SHAPE),
    "gpt2": lambda: GPT2Config(vocab_size=160, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
}


def save_single(model, folder):
    model.save_pretrained(folder)


def save_as_v4(model, folder):
    """One file, and config.json with torch_dtype in place of dtype."""
    model.save_pretrained(folder)
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        text = f.read()
    assert text.count('"dtype"') == 1
    with open(path, "w") as f:
        f.write(text.replace('"dtype"', '"torch_dtype"'))


def save_shards(model, folder):
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len([f for f in os.listdir(folder) if f.endswith(".safetensors")]) > 2


def torch_file(zip_layout):
    def save(model, folder):
        os.makedirs(folder, exist_ok=True)
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        torch.save(model.state_dict(), os.path.join(folder, "pytorch_model.bin"), _use_new_zipfile_serialization=zip_layout)

    return save


def torch_shards(model, folder):
    """pytorch_model-0000n-of-00003.bin, the legacy layout in the second."""
    os.makedirs(folder, exist_ok=True)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    state = model.state_dict()
    names = list(state)
    weight_map = {}
    for i in range(3):
        part = names[i * len(names) // 3 : (i + 1) * len(names) // 3]
        file = f"pytorch_model-{i + 1:05d}-of-00003.bin"
        # A clone of each: a slice of a shared storage would carry all of it.
        torch.save({k: state[k].clone() for k in part}, os.path.join(folder, file), _use_new_zipfile_serialization=i != 1)
        weight_map.update({k: file for k in part})
    size = sum(t.numel() * t.element_size() for t in state.values())
    with open(os.path.join(folder, "pytorch_model.bin.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": size}, "weight_map": weight_map}, f, indent=2)


# (config, how SFT is saved, how aligned is saved, SFT dtype, aligned dtype, arguments for expo, what to compute)
single, shards, zipped, legacy, v4 = save_single, save_shards, torch_file(True), torch_file(False), save_as_v4
CASES = [
    ("llama", single, single, BF16, BF16, [], "once"),
    ("llama", shards, shards, BF16, BF16, [], "once"),
    ("llama", single, shards, BF16, BF16, ["--shard-size", "60KB"], "once"),
    ("llama", shards, single, BF16, BF16, ["--shard-size", "30KB"], "once"),
    ("llama-12-layers", shards, shards, BF16, BF16, [], "once"),
    ("llama", zipped, zipped, BF16, BF16, [], "once"),
    ("llama", legacy, legacy, BF16, BF16, [], "once"),
    ("llama", torch_shards, torch_shards, BF16, BF16, [], "once"),
    ("llama", zipped, single, F32, BF16, [], "once"),
    ("llama", single, legacy, BF16, F16, [], "once"),
    ("llama", single, single, F32, F32, [], "once"),
    ("llama", single, single, F16, F16, [], "once"),
    ("llama", single, single, BF16, BF16, ["--dtype", "f32"], "once"),
    ("llama", single, single, BF16, BF16, ["--dtype", "f16"], "once"),
    ("llama", single, single, F32, F32, ["--dtype", "bf16"], "once"),
    ("llama", single, v4, BF16, BF16, ["--dtype", "f32"], "once"),
    ("llama", single, single, BF16, BF16, ["--rounding", "per-op"], "per-op"),
    ("llama", single, single, F32, F32, ["--rounding", "per-op"], "per-op"),
    ("llama-tied", single, single, BF16, BF16, [], "once"),
    ("llama-tied", shards, shards, BF16, BF16, [], "once"),
    ("llama-tied", zipped, zipped, BF16, BF16, [], "once"),
    ("llama-tied", legacy, legacy, BF16, BF16, [], "once"),
    ("llama-tied", zipped, single, BF16, BF16, [], "once"),
    ("llama-tied", single, zipped, BF16, BF16, [], "once"),
    ("qwen2", single, single, BF16, BF16, [], "once"),
    ("qwen2", shards, zipped, BF16, BF16, [], "once"),
    ("qwen2-tied", single, single, BF16, BF16, [], "once"),
    ("qwen2-tied", legacy, shards, BF16, BF16, [], "once"),
    ("mistral", single, single, BF16, BF16, [], "once"),
    ("mistral", shards, legacy, BF16, BF16, [], "once"),
    ("gpt2", single, single, BF16, BF16, [], "once"),
    ("gpt2", zipped, zipped, F32, F32, [], "once"),
]

SMALL = {
    "tokenizer.json": '{"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":[]}}',
    "tokenizer_config.json": '{"tokenizer_class":"PreTrainedTokenizerFast","chat_template":"{{ messages }}"}',
    "special_tokens_map.json": '{"eos_token":"</s>"}',
    "tokenizer.model": "bytes of a sentencepiece model",
    "added_tokens.json": '{"<extra>":159}',
    "vocab.json": '{"a":0}',
    "merges.txt": "#version: 0.2\n",
    "chat_template.jinja": "{{ messages[0].content }}",
    "modeling_own.py": "# remote code\n",
    "LICENSE": "licence text\n",
}
LEFT = {"trainer_state.json": "{}", "training_args.bin": "x", "optimizer.pt": "x", "rng_state_0.pth": "x", "scheduler.pt": "x"}


def make_pair(config, dtype_sft, dtype_aligned):
    torch.manual_seed(11)
    sft = AutoModelForCausalLM.from_config(CONFIGS[config](), dtype=F32)
    torch.manual_seed(12)
    aligned = AutoModelForCausalLM.from_config(CONFIGS[config](), dtype=F32)
    with torch.no_grad():
        for p, q in zip(sft.parameters(), aligned.parameters()):
            noise = torch.randn(p.shape) * 1e-3 * (torch.rand(p.shape) < 0.6)
            q.copy_(p + noise)
    sft, aligned = sft.to(dtype_sft), aligned.to(dtype_aligned)
    for m, d in ((sft, dtype_sft), (aligned, dtype_aligned)):
        m.config.dtype = d
        m.tie_weights()
    return sft.eval(), aligned.eval()


def expected(aligned, sft, alpha, rounding, out):
    if rounding == "per-op":
        a, s = aligned.to(BF16), sft.to(BF16)
        return (a + alpha * (a - s)).to(out)
    a, s = aligned.to(F32), sft.to(F32)
    r = torch.where(a == s, a, a + alpha * (a - s)).to(out)
    return torch.where(a == s, aligned, r) if aligned.dtype == out else r


def same_bits(x, y):
    return x.dtype == y.dtype and x.shape == y.shape and bool((x.contiguous().view(torch.uint8) == y.contiguous().view(torch.uint8)).all())


def check(expo, tmp, case, alpha):
    config, save_sft, save_aligned, dtype_sft, dtype_aligned, extra, rounding = case
    ds, da, do = (os.path.join(tmp, x) for x in ("sft", "aligned", "out"))
    for d in (ds, da, do):
        shutil.rmtree(d, ignore_errors=True)
    sft, aligned = make_pair(config, dtype_sft, dtype_aligned)
    save_sft(sft, ds)
    save_aligned(aligned, da)
    for folder, mark in ((ds, "sft "), (da, "")):
        for name, text in {**SMALL, **LEFT}.items():
            with open(os.path.join(folder, name), "w") as f:
                f.write(text.replace("bytes", mark + "bytes").replace("text", mark + "text"))
    problems = []
    r = expo.must("extrapolate", "--sft", ds, "--aligned", da, "--alpha", repr(alpha), *extra, "-o", do)
    if r.stdout.strip() != do:
        problems.append(f"stdout is {r.stdout!r}, want the output folder")

    out = dtype_aligned
    if rounding == "per-op":
        out = BF16
    if "--dtype" in extra:
        out = {v: k for k, v in NAMES.items()}[extra[extra.index("--dtype") + 1]]
    with open(os.path.join(do, "config.json")) as f:
        written = json.load(f)
    with open(os.path.join(da, "config.json")) as f:
        was = json.load(f)
    key = "torch_dtype" if save_aligned is v4 else "dtype"
    if written.get(key) != str(out).removeprefix("torch."):
        problems.append(f"config.json has {key} {written.get(key)!r}, weights are {NAMES[out]}")
    if {**written, key: None} != {**was, key: None}:
        problems.append("config.json differs from the aligned model's in more than the dtype")
    if out == dtype_aligned and not filecmp.cmp(os.path.join(do, "config.json"), os.path.join(da, "config.json"), shallow=False):
        problems.append("config.json was rewritten although the dtype is kept")
    for name in [*SMALL, "generation_config.json"]:
        if not os.path.exists(os.path.join(do, name)):
            problems.append(f"{name} was not copied")
        elif not filecmp.cmp(os.path.join(do, name), os.path.join(da, name), shallow=False):
            problems.append(f"{name} differs from the aligned model's")
    for name in LEFT:
        if os.path.exists(os.path.join(do, name)):
            problems.append(f"{name} was copied")
    for name in os.listdir(do):
        if os.stat(os.path.join(do, name)).st_mode & 0o444 != 0o444:
            problems.append(f"{name} is not readable by others")

    loaded = os.path.join(tmp, "loaded.pt")
    child = subprocess.run([sys.executable, os.path.abspath(__file__), "--load", do, "--into", loaded], capture_output=True, text=True)
    if child.returncode != 0:
        return problems + ["loading failed: " + child.stderr.strip()[-2000:]]
    got = torch.load(loaded)
    for key, names in got["info"].items():
        if names:
            problems.append(f"transformers reports {key}: {sorted(names)[:5]}")
    if not got["finite"]:
        problems.append("logits are not finite")
    want_a, want_s = aligned.state_dict(), sft.state_dict()
    if set(got["state"]) != set(want_a):
        problems.append(f"parameters differ in name: {sorted(set(got['state']) ^ set(want_a))[:5]}")
    changed = 0
    for name, a in want_a.items():
        if name not in got["state"]:
            continue
        want = expected(a, want_s[name], alpha, rounding, out) if a.is_floating_point() else a
        if not same_bits(got["state"][name], want):
            problems.append(f"{name}: loaded {got['state'][name].dtype} {tuple(got['state'][name].shape)} differs from the arithmetic here ({want.dtype} {tuple(want.shape)})")
        changed += int((want.to(F32) != a.to(F32)).sum())
    if changed == 0:
        problems.append("the case is empty: nothing changes")
    tied = aligned.config.tie_word_embeddings
    if tied != got["tied"]:
        problems.append(f"head tied to embedding: {got['tied']} after, {tied} before")
    if expo.run("verify", do).status != 0:
        problems.append("expo verify refuses the output")
    return problems


def load(folder, into):
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype="auto", local_files_only=True)
    model.eval()
    with torch.no_grad():
        logits = model(torch.arange(1, 20)[None]).logits
    info = {k: [str(x) for x in v] for k, v in info.items() if isinstance(v, (list, set, tuple, dict))}
    tied = model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    torch.save({"info": info, "finite": bool(torch.isfinite(logits).all()), "tied": tied, "state": state}, into)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--expo", help="the program (default: built from this repository)")
    p.add_argument("--alpha", type=float, default=0.3)
    p.add_argument("--load", help=argparse.SUPPRESS)
    p.add_argument("--into", help=argparse.SUPPRESS)
    args = p.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if args.load:
        return load(args.load, args.into)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="against-transformers-") as tmp:
        expo = Expo(args.expo, tmp)
        print(f"torch {torch.__version__}, transformers {transformers.__version__}, alpha {args.alpha}")
        for case in CASES:
            config, save_sft, save_aligned, dtype_sft, dtype_aligned, extra, _ = case
            kind = {single: "one file", v4: "one file, torch_dtype", shards: "shards", zipped: ".bin", legacy: ".bin legacy", torch_shards: ".bin shards"}
            label = f"{config}: sft {NAMES[dtype_sft]} {kind[save_sft]}, aligned {NAMES[dtype_aligned]} {kind[save_aligned]} {' '.join(extra)}".rstrip()
            try:
                problems = check(expo, tmp, case, args.alpha)
            except SystemExit as e:
                problems = [str(e)]
            except Exception:
                problems = [traceback.format_exc()]
            failed += bool(problems)
            print(f"{'FAIL' if problems else 'ok  '} {label}", flush=True)
            for x in problems:
                print("       " + x.replace("\n", "\n       "))
        print(f"{len(CASES)} pairs, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
