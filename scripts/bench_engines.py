#!/usr/bin/env python3
"""Tokens per second of expo, llama.cpp and PyTorch on the same weights and cores.

    pip install numpy llama-cpp-python torch transformers
    python scripts/bench_engines.py --gguf model.gguf --checkpoint DIR --threads 2

For every GGUF file the rival is llama.cpp (llama-cpp-python), for every
directory transformers on PyTorch's CPU kernels in bfloat16. Three figures each:
decoding one stream, reading a prompt of 512 tokens, and decoding 16 streams at
once. Rounds alternate between the engines, each in a process of its own, and
the medians and their ratio are printed; nothing else should run meanwhile.
llama-cpp-python from PyPI compiles for the machine it is installed on; its
AMX path crashes on some (then build with the features named, without AMX).
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile

from expo_command import Expo

PROMPT, DECODED, STREAMS = 512, 128, 16


def prompts(vocabulary, n, length, seed):
    rng = random.Random(seed)
    return [[rng.randrange(10, vocabulary) for _ in range(length)] for _ in range(n)]


def run_expo(args, model, vocabulary):
    """One process for each figure, so that nothing is shared between them."""

    def answers(rows, tokens, batch):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as f:
            for row in rows:
                f.write(json.dumps({"prompt": row}) + "\n")
            f.flush()
            out = args.program.must("generate", model, "--prompts", f.name, "--ignore-eos", "--max-tokens", tokens,
                                    "--max-batch", batch, "--jobs", args.threads, "--raw").stdout
        return [json.loads(line)["timings"] for line in out.splitlines()]

    # The first row warms up.
    one = answers(prompts(vocabulary, 3, 16, 1), DECODED, 1)[1:]
    many = answers(prompts(vocabulary, STREAMS, 16, 2), DECODED, STREAMS)
    long = answers(prompts(vocabulary, 3, PROMPT, 3), 1, 1)[1:]
    return {
        "decode": statistics.median((t["completion_tokens"] - 1) / t["completion_seconds"] for t in one),
        "prefill": statistics.median(t["prompt_tokens"] / t["prompt_seconds"] for t in long),
        # The stream that starts first also waits for the other prompts, which the
        # rivals read before their loop begins; the median is of the others.
        "16 streams": STREAMS * (DECODED - 1) / statistics.median(t["completion_seconds"] for t in many),
    }


def run_llama(threads, model):
    import time

    import llama_cpp as L
    import numpy as np

    silent = L.llama_log_callback(lambda level, text, data: None)
    L.llama_log_set(silent, None)
    L.llama_backend_init()
    loaded = L.llama_model_load_from_file(model.encode(), L.llama_model_default_params())
    params = L.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = STREAMS * 1024, PROMPT, PROMPT, STREAMS
    params.n_threads = params.n_threads_batch = threads
    ctx = L.llama_init_from_model(loaded, params)
    vocabulary = L.llama_vocab_n_tokens(L.llama_model_get_vocab(loaded))
    memory = L.llama_get_memory(ctx)
    batch = L.llama_batch_init(PROMPT, 0, 1)

    def decode(tokens, positions, sequences, wanted):
        batch.n_tokens = len(tokens)
        for i, (token, pos, seq, want) in enumerate(zip(tokens, positions, sequences, wanted)):
            batch.token[i], batch.pos[i] = token, pos
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, seq
            batch.logits[i] = want
        assert L.llama_decode(ctx, batch) == 0
        L.llama_synchronize(ctx)

    def best(i):
        return int(np.argmax(np.ctypeslib.as_array(L.llama_get_logits_ith(ctx, i), shape=(vocabulary,))))

    def streams(rows, n):
        L.llama_memory_clear(memory, True)
        last = []
        for s, row in enumerate(rows):
            decode(row, range(len(row)), [s] * len(row), [i == len(row) - 1 for i in range(len(row))])
            last.append(best(len(row) - 1))
        start = time.perf_counter()
        for i in range(n - 1):
            decode(last, [len(row) + i for row in rows], range(len(rows)), [True] * len(rows))
            last = [best(s) for s in range(len(rows))]
        return len(rows) * (n - 1) / (time.perf_counter() - start)

    def read(row):
        L.llama_memory_clear(memory, True)
        start = time.perf_counter()
        decode(row, range(len(row)), [0] * len(row), [i == len(row) - 1 for i in range(len(row))])
        best(len(row) - 1)
        return len(row) / (time.perf_counter() - start)

    one = [streams([row], DECODED) for row in prompts(vocabulary, 3, 16, 1)][1:]
    many = streams(prompts(vocabulary, STREAMS, 16, 2), DECODED)
    long = [read(row) for row in prompts(vocabulary, 3, PROMPT, 3)][1:]
    return {"decode": statistics.median(one), "prefill": statistics.median(long), "16 streams": many}


def run_torch(threads, model):
    import time

    import torch
    import transformers

    torch.set_num_threads(threads)
    m = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    vocabulary = m.config.vocab_size

    @torch.inference_mode()
    def streams(rows, n):
        out = m(input_ids=torch.tensor(rows), use_cache=True, logits_to_keep=1)
        start = time.perf_counter()
        for _ in range(n - 1):
            last = out.logits[:, -1:].argmax(-1)
            out = m(input_ids=last, past_key_values=out.past_key_values, use_cache=True)
        out.logits[:, -1].argmax(-1)
        return len(rows) * (n - 1) / (time.perf_counter() - start)

    @torch.inference_mode()
    def read(row):
        start = time.perf_counter()
        m(input_ids=torch.tensor([row]), use_cache=True, logits_to_keep=1).logits[0, -1].argmax()
        return len(row) / (time.perf_counter() - start)

    one = [streams([row], 48) for row in prompts(vocabulary, 2, 16, 1)][1:]
    many = streams(prompts(vocabulary, STREAMS, 16, 2), 32)
    long = [read(row) for row in prompts(vocabulary, 3, PROMPT, 3)][1:]
    return {"decode": statistics.median(one), "prefill": statistics.median(long), "16 streams": many}


def read_speed(paths):
    """Bytes per second of reading the files from the page cache, best of 3."""
    import time

    best = 0.0
    buffer = bytearray(4 << 20)
    for _ in range(3):
        total, start = 0, time.perf_counter()
        for p in paths:
            with open(p, "rb", buffering=0) as f:
                while n := f.readinto(buffer):
                    total += n
        best = max(best, total / (time.perf_counter() - start))
    return total, best


def processor():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return "unknown"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--gguf", action="append", default=[], help="measured against llama.cpp; repeatable")
    p.add_argument("--checkpoint", action="append", default=[], help="measured against PyTorch; repeatable")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--expo", help="the program (default: built from this repository)")
    p.add_argument("--rival", choices=["llama", "torch"], help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.rival:
        model = (args.gguf + args.checkpoint)[0]
        run = run_llama if args.rival == "llama" else run_torch
        print(json.dumps(run(args.threads, model)))
        return
    with tempfile.TemporaryDirectory() as tmp:
        args.program = Expo(args.expo, tmp)
        print(f"{processor()}, {args.threads} threads; tokens per second, medians of {args.rounds} rounds")
        print(f"{'model':<36} {'':<11} {'expo':>8} {'rival':>8} {'ratio':>6}")
        for model, kind in [(m, "llama") for m in args.gguf] + [(m, "torch") for m in args.checkpoint]:
            files = [model] if os.path.isfile(model) else [os.path.join(model, f) for f in os.listdir(model) if f.endswith(".safetensors")]
            size, speed = read_speed(files)
            vocabulary = 32000
            if os.path.isdir(model):
                vocabulary = json.load(open(os.path.join(model, "config.json")))["vocab_size"]
            ours, theirs = [], []
            for _ in range(args.rounds):
                ours.append(run_expo(args, model, vocabulary))
                flag = "--gguf" if kind == "llama" else "--checkpoint"
                out = subprocess.run([sys.executable, __file__, "--rival", kind, flag, model, "--threads", str(args.threads)],
                                     check=True, capture_output=True, text=True).stdout
                theirs.append(json.loads(out.splitlines()[-1]))
            name = os.path.basename(os.path.normpath(model))
            for what in ours[0]:
                a = statistics.median(r[what] for r in ours)
                b = statistics.median(r[what] for r in theirs)
                note = f"  {a * size / 1e9:.1f} GB/s of weights" if what == "decode" else ""
                print(f"{name:<36} {what:<11} {a:8.1f} {b:8.1f} {a / b:6.2f}{note}  (rival: {'llama.cpp' if kind == 'llama' else 'PyTorch'})", flush=True)
            print(f"{name:<36} a plain read of the {size / 1e6:.0f} MB by one thread: {speed / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()
