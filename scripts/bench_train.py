#!/usr/bin/env python3
"""Compares the speed of training with PyTorch's: one SFT step, optimizer included,
of a Llama of 15 million parameters on 8 sequences of 256 tokens, all of which count.

    python scripts/bench_train.py [--rounds 5] [--threads 2] [--cpu]

Needs Go, torch and transformers. Rounds alternate between the two programs, so
that both see the same machine; the fastest step of each counts. Prints a JSON
document with seconds per step and the ratio, above 1 where expo is faster.

With --cpu the time is that of the processor, with one thread: on a machine that is
busy with other things it says more than the clock on the wall.
"""
import argparse
import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BATCH, LENGTH, VOCAB = 8, 256, 32000


def rival(threads, compute, steps, clock):
    """Seconds of each step by PyTorch; runs in a process of its own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    config = LlamaConfig(hidden_size=288, intermediate_size=768, num_hidden_layers=6, num_attention_heads=6,
                         vocab_size=VOCAB, max_position_embeddings=LENGTH + 1, tie_word_embeddings=True)
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.randint(0, VOCAB, (BATCH, LENGTH + 1))
    seconds = []
    for _ in range(steps + 1):
        start = clock()
        cast = torch.autocast("cpu", dtype=torch.bfloat16) if compute == "bf16" else contextlib.nullcontext()
        with cast:
            logits = model(input_ids=ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.float().reshape(-1, VOCAB), ids[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(clock() - start)
    return seconds[1:]  # the first one allocates


def ours_cpu(binary, compute, steps):
    def used(n):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ours(binary, 1, compute, n)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # Making the model is in both.
    return (used(steps + 1) - used(1)) / steps


def ours(binary, threads, compute, steps):
    out = subprocess.run([binary, "-test.run", "^$", "-test.bench", f"^BenchmarkSFTStep$/^15M$/^{compute}$",
                          "-test.benchtime", f"{steps}x", "-test.cpu", str(threads)],
                         check=True, capture_output=True, text=True).stdout
    return float(re.search(r"(\d+) ns/op", out).group(1)) / 1e9


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--steps", type=int, default=3, help="steps in a round")
    p.add_argument("--cpu", action="store_true")
    p.add_argument("--rival", choices=["f32", "bf16"], help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.rival:
        print(json.dumps(rival(a.threads, a.rival, a.steps, time.process_time if a.cpu else time.perf_counter)))
        return
    if a.cpu:
        a.threads = 1
    with tempfile.TemporaryDirectory() as tmp:
        binary = os.path.join(tmp, "train.test")
        subprocess.run(["go", "test", "-c", "-o", binary, "./align/train"], cwd=ROOT, check=True)
        result = {"batch": BATCH, "length": LENGTH, "threads": a.threads, "clock": "cpu" if a.cpu else "wall"}
        for compute in ("f32", "bf16"):
            torch_s, expo_s = [], []
            for _ in range(a.rounds):
                command = [sys.executable, __file__, "--rival", compute, "--threads", str(a.threads), "--steps", str(a.steps)] + ["--cpu"] * a.cpu
                torch_s.append(min(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)))
                expo_s.append(ours_cpu(binary, compute, a.steps) if a.cpu else ours(binary, a.threads, compute, a.steps))
            best = min(torch_s), min(expo_s)
            result[compute] = {"torch_seconds": round(best[0], 3), "expo_seconds": round(best[1], 3),
                               "expo_tokens_per_second": round(BATCH * LENGTH / best[1]), "ratio": round(best[0] / best[1], 2)}
        print(json.dumps(result, indent=2))


main()
