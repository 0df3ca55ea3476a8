#!/usr/bin/env python3
"""Compares logits and greedy answers of expo with those of transformers.

Requires: python3 with torch (2.8.0), transformers (5.23.0); Go
Command:  python3 scripts/against_transformers_text.py [--dtype bf16] [--tokens 64] MODEL

MODEL is the directory of a chat model. transformers computes the logits after
some prompts, as the model's chat template puts them, and the likeliest tokens
that follow. The test TestByHand of lm/model computes the same, and this program
prints what it reports: differences of logits as a part of the largest magnitude
among them, and where the tokens part.

In float32 logits may differ by 1e-4 of that scale. In bfloat16 every operation
rounds to 8 bits, and a last bit that falls the other way grows from layer to
layer. How far is a property of the model, which transformers shows as well when
it adds in another order: so its two implementations of attention, sdpa and
eager, are compared, too, and expo may differ from the first by 2e-2 or by a
quarter more than the second does, whichever is more. Tokens may part where the
two largest logits are equal or neighbours among bfloat16 values.

Exit status 1 if expo differs by more.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from expo_command import REPOSITORY

DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
PROMPTS = [
    "Why is the sky blue?",
    "Explain recursion to a ten-year-old.",
    "Write a Python function that reverses a string.",
    "What are the main causes of the First World War?",
    "Write an email to my manager asking for a day off on Friday.",
    "How does a bicycle stay upright?",
    "Tell me a joke about programmers.",
    'Describe a sunset without using the word "red".',
]


def greedy(model, ids, tokens, end):
    """Logits after ids, the likeliest tokens that follow, and the margins."""
    out = model(torch.tensor([ids]), use_cache=True)
    last = logits = out.logits[0, -1].float()
    best, margins = [], []
    while True:
        two = torch.topk(logits, 2).values
        best.append(int(logits.argmax()))
        margins.append(float(two[0] - two[1]))
        if len(best) == tokens or best[-1] == end:
            return last, best, margins
        out = model(torch.tensor([best[-1:]]), past_key_values=out.past_key_values, use_cache=True)
        logits = out.logits[0, -1].float()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", metavar="MODEL")
    p.add_argument("--dtype", choices=DTYPES, default="bf16", help="of the checkpoint, in which both compute")
    p.add_argument("--tokens", type=int, default=64)
    args = p.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    path = os.path.abspath(args.model)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    load = lambda attention: AutoModelForCausalLM.from_pretrained(path, dtype=DTYPES[args.dtype], attn_implementation=attention, local_files_only=True).eval()
    prompts = [tokenizer.apply_chat_template([{"role": "user", "content": p}], add_generation_prompt=True, return_dict=False) for p in PROMPTS]
    with torch.no_grad():
        model = load("sdpa")
        results = [greedy(model, ids, args.tokens, tokenizer.eos_token_id) for ids in prompts]
        model = load("eager")
        other = [model(torch.tensor([ids])).logits[0, -1].float() for ids in prompts]
    del model
    scales = [float(last.abs().max()) for last, _, _ in results]
    selves = [float((a - r[0]).abs().max()) / s for a, r, s in zip(other, results, scales)]
    tolerance, margin = 1e-4, 1e-4 * max(scales)
    if args.dtype == "bf16":
        # A bfloat16 value has 8 bits, and so has its distance to the next.
        tolerance, margin = max(2e-2, 1.25 * max(selves)), 2.0 ** (math.floor(math.log2(max(scales))) - 7)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {args.dtype}, {args.tokens} tokens")
    print("eager attention differs from sdpa by " + ", ".join(f"{x:.4f}" for x in selves))
    with tempfile.TemporaryDirectory(prefix="against-transformers-") as tmp:
        gold = os.path.join(tmp, "gold.json")
        with open(gold, "w") as f:
            cases = [{"ids": ids, "last": last.tolist(), "greedy": best, "margins": margins} for ids, (last, best, margins) in zip(prompts, results)]
            json.dump({"tolerance": tolerance, "margin": margin, "cases": cases}, f)
        r = subprocess.run(["go", "test", "-count=1", "-v", "-run", "^TestByHand$", "./lm/model"], cwd=REPOSITORY, env={**os.environ, "EXPO_MODEL": path, "EXPO_GOLD": gold}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = [line.strip().split(": ", 1)[-1] for line in r.stdout.splitlines() if ": case " in line]
    print("\n".join(lines) if lines else r.stdout)
    sys.exit(1 if r.returncode else 0)


if __name__ == "__main__":
    main()
