#!/usr/bin/env python3
"""Compares greedy answers of expo and of llama.cpp to 20 prompts, from one GGUF file.

Requires: python3 with llama-cpp-python (0.3.36), jinja2, numpy; Go, unless --expo
Command:  python3 scripts/against_llamacpp.py [--expo PATH] [--tokens 128] MODEL.gguf...

llama.cpp answers every prompt with the model's own chat template, taking the
likeliest token each time; so does expo, all prompts in one batch. Prompts must
have the same text and number of tokens. Answers are compared up to the first
token where llama.cpp's two largest logits are closer than --margin: there it is
left to rounding which one wins.

With quantized weights it is left to rounding elsewhere, too. Vectors are rounded
to 8 bits before they are multiplied, and where a value is halfway between two
steps, the last bit of a sum decides; what that changes is a whole step, changes
other such decisions in the next layer, and after a few layers has grown to
tenths of a logit whatever it began as. llama.cpp is subject to it itself: its
results change with the number of prompt tokens that it computes together, as it
adds products in another order then. So it is also compared with itself, reading
prompts token by token, and the two comparisons are printed side by side.

The second table is of log-probabilities that llama.cpp's answers have, token
by token: the root of the mean square of the differences. It is over all tokens,
and so a steadier measure than where the first split happens to be.

Exit status 1 if a prompt differs, or if an answer splits where the margin is
larger and the differences of log-probabilities are more than a quarter above
those of llama.cpp from itself.
"""

import argparse
import ctypes
import json
import math
import os
import subprocess
import sys
import tempfile

import llama_cpp
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from expo_command import Expo

PROMPTS = [
    "Why is the sky blue?",
    "Write a short poem about the sea in winter.",
    "What is the capital of Australia, and what is it known for?",
    "Explain recursion to a ten-year-old.",
    "List five uses for a paper clip.",
    'Translate "Good morning, my friend" into French and Spanish.',
    "Write a Python function that reverses a string.",
    "Summarize the plot of Romeo and Juliet in three sentences.",
    "If I have 17 apples and give away 5, how many are left? Explain step by step.",
    "What are the main causes of the First World War?",
    "Give me a recipe for pancakes.",
    "Who was Marie Curie?",
    "Write an email to my manager asking for a day off on Friday.",
    "What is the difference between a virus and a bacterium?",
    "Name three planets and one fact about each.",
    "How does a bicycle stay upright?",
    "Tell me a joke about programmers.",
    "What should I pack for a week of hiking in the mountains?",
    'Describe a sunset without using the word "red".',
    "Is it safe to drink rainwater? Answer briefly, then explain why.",
]


class Rival:
    """llama.cpp with one model; batch is how many prompt tokens it computes together."""

    def __init__(self, path, context, threads, batch):
        self.model = llama_cpp.Llama(path, n_ctx=context, n_batch=batch, n_ubatch=batch, n_threads=threads, n_threads_batch=threads, verbose=False)
        self.size = self.model.n_vocab()

    def template(self):
        data = self.model.metadata
        text = lambda key: self.model.detokenize([int(data[key])], special=True).decode() if key in data else ""
        form = Jinja2ChatFormatter(data["tokenizer.chat_template"], eos_token=text("tokenizer.ggml.eos_token_id"), bos_token=text("tokenizer.ggml.bos_token_id"))
        return lambda prompt: form(messages=[{"role": "user", "content": prompt}]).prompt

    def logits(self):
        return np.ctypeslib.as_array(self.model._ctx.get_logits(), shape=(self.size,)).astype(np.float64)

    def ends(self, token):
        vocab = llama_cpp.llama_model_get_vocab(self.model._model.model)
        return llama_cpp.llama_vocab_is_eog(vocab, ctypes.c_int(token))

    def answer(self, ids, tokens=None, given=None):
        """The likeliest tokens, or what follows given ones: (likeliest, margins, log-probabilities)."""
        self.model.reset()
        self.model.eval(ids)
        best, margins, logprobs = [], [], []
        for k in range(len(given) if given else tokens):
            l = self.logits()
            second, first = np.partition(l, -2)[-2:]
            best.append(int(l.argmax()))
            margins.append(first - second)
            token = given[k] if given else best[-1]
            logprobs.append(l[token] - first - math.log(np.exp(l - first).sum()))
            if given is None and self.ends(token):
                break
            self.model.eval([token])
        return best, margins, logprobs


def split(a, b):
    """The first place where two answers differ, None if there is none."""
    for i, (x, y) in enumerate(zip(a, b)):
        if x != y:
            return i
    return None if len(a) == len(b) else min(len(a), len(b))


def verdict(at, margins, bound):
    """(text, whether the answers differ where they should not)"""
    tie = next((i for i, m in enumerate(margins) if m < bound), len(margins))
    if at is None:
        return "equal", False
    margin = margins[min(at, len(margins) - 1)]
    if at > tie:
        return f"at {at}, past a tie at {tie}", False
    if at == tie:
        return f"at {at}, a tie ({margin:.3f})", False
    return f"at {at}, MARGIN {margin:.3f}", True


def rms(a, b):
    return math.sqrt(np.mean([(x - y) ** 2 for p, q in zip(a, b) for x, y in zip(p, q)]))


def compare(expo, tmp, path, args):
    print(f"{os.path.basename(path)}")
    rival = Rival(path, args.context, args.threads, 512)
    fill = rival.template()
    texts = [fill(p) for p in PROMPTS]
    ids = [rival.model.tokenize(t.encode(), add_bos=False, special=True) for t in texts]
    want = [rival.answer(i, tokens=args.tokens) for i in ids]
    del rival
    single = Rival(path, args.context, args.threads, 1)
    self_ = [single.answer(i, given=w[0]) for i, w in zip(ids, want)]
    del single

    rows, out = os.path.join(tmp, "in.jsonl"), os.path.join(tmp, "out.jsonl")
    with open(rows, "w") as f:
        for p in PROMPTS:
            f.write(json.dumps({"messages": [{"role": "user", "content": p}]}) + "\n")
    if os.path.exists(out):
        os.remove(out)
    expo.must("generate", path, "--prompts", rows, "-o", out, "--max-tokens", args.tokens, "--temperature", 0, "-j", args.threads)
    with open(out) as f:
        got = [json.loads(line) for line in f]
    score = [{"prompt": i, "continuation": w[0]} for i, w in zip(ids, want)]
    scored = subprocess.run(expo.command("score", path, "-j", args.threads), input="".join(json.dumps(r) + "\n" for r in score), stdout=subprocess.PIPE, text=True, check=True)
    logprobs = [json.loads(line)["token_logprobs"] for line in scored.stdout.splitlines()]

    problems, failed, failed_self = [], 0, 0
    print(f"  {'prompt':<36} {'tokens':>6}  {'expo and llama.cpp split':<28} llama.cpp and itself")
    for k, p in enumerate(PROMPTS):
        best, margins, _ = want[k]
        text = expo.must("generate", path, p, "--print-prompt").stdout.removesuffix("\n")
        if text != texts[k]:
            problems.append(f"prompt {k}: expo's template makes {text!r}, llama.cpp's {texts[k]!r}")
        if got[k]["usage"]["prompt_tokens"] != len(ids[k]):
            problems.append(f"prompt {k}: {got[k]['usage']['prompt_tokens']} tokens, llama.cpp has {len(ids[k])}")
        answer = got[k]["token_ids"]
        mine, bad = verdict(split(answer, best), margins, args.margin)
        other, bad_self = verdict(split(self_[k][0], best), margins, args.margin)
        failed += bad
        failed_self += bad_self
        print(f"  {p[:36]:<36} {len(best):>6}  {mine:<28} {other}")
    ours, theirs = rms(logprobs, [w[2] for w in want]), rms([s[2] for s in self_], [w[2] for w in want])
    print(f"  splits at a margin of {args.margin} or more: expo {failed}, llama.cpp itself {failed_self}, of {len(PROMPTS)}")
    print(f"  differences of log-probabilities: expo {ours:.4f}, llama.cpp itself {theirs:.4f}")
    if failed and ours > 1.25 * theirs:
        problems.append("expo is further from llama.cpp than llama.cpp is from itself")
    for x in problems:
        print("  FAIL " + x)
    return bool(problems)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+", metavar="MODEL.gguf")
    p.add_argument("--expo", help="the program (default: built from this repository)")
    p.add_argument("--tokens", type=int, default=128, help="of an answer at most")
    p.add_argument("--margin", type=float, default=0.05, help="between the two largest logits, below which either may win")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--context", type=int, default=1024)
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="against-llamacpp-") as tmp:
        expo = Expo(args.expo, tmp)
        print(f"llama-cpp-python {llama_cpp.__version__}, {args.tokens} tokens, {args.threads} threads")
        failed = [m for m in args.models if compare(expo, tmp, m, args)]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
