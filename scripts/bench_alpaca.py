#!/usr/bin/env python3
"""Compares the speed of scoring AlpacaEval judgments with alpaca_eval's.

    pip install alpaca_eval
    python scripts/bench_alpaca.py [--expo PATH] [--models 200] [--rounds 3]

Both read annotations.json of models with 805 rows each and compute win rate,
length-controlled win rate and their errors, C by cross-validation. expo scores
all models in one command, and all that it does counts, its start too; of
alpaca_eval only what it does for a model counts: reading the file and
get_length_controlled_winrate, after everything has been imported and one model
scored to warm up. Rounds alternate between the two. This is done on one core,
and then on all of them: alpaca_eval's own loop runs on one in any case. Prints a
JSON document with the best seconds per model of each, their ratio, above 1 where
expo is faster, and how far the figures of both are apart.

With the environment variable EXPO_TESTDATA, preferences, lengths, difficulties
and gamed rows are the published ones in the folder alpacaeval there; without it
they are made up. Texts are made up in any case. alpaca_eval's own df_gamed.csv
can be given with --gamed.
"""

import argparse
import collections
import csv
import glob
import gzip
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time

from expo_command import Expo

ROWS = 805
JUDGE, BASELINE = "weighted_alpaca_eval_gpt4_turbo", "gpt4_1106_preview"
# What is known of the gamed rows: Σ y tanh and Σ y d, which expo checks.
GAMED_TANH, GAMED_DIFFICULTY = -182.6923898238, 413.0468487671


def published(folder):
    """Difficulties, gamed rows and judgments of models, by their figures."""
    with open(os.path.join(folder, "instructions.csv")) as f:
        difficulty = [float(r["instruction_difficulty"]) for r in csv.DictReader(f)]
    with open(os.path.join(folder, "gamed_surrogate.csv")) as f:
        gamed = [(r["model"], int(r["instr"]), float(r["tanh_std_delta_len"]), float(r["instruction_difficulty"]), float(r["preference_surrogate"]))
                 for r in csv.DictReader(f)]
    models = collections.OrderedDict()
    with gzip.open(os.path.join(folder, "annotations.csv.gz"), "rt") as f:
        for r in csv.DictReader(f):
            if r["annotator"] == JUDGE and r["model"] != BASELINE:
                preference = float(r["preference"]) if r["preference"] else None
                models.setdefault((r["source"], r["model"]), []).append((int(r["instr"]), preference, int(r["len_base"]), int(r["len_model"])))
    return difficulty, gamed, [rows for rows in models.values() if len(rows) == ROWS]


def made_up(models):
    rng = random.Random(1)
    difficulty = [0.0] + [rng.gauss(-0.06, 1.48) for _ in range(ROWS - 1)]
    gamed = []
    for name, at in (("concise", 0.9), ("verbose", -0.8)):
        gamed += [(name, i, math.tanh(at + rng.gauss(0, 0.4)), d, 0.0) for i, d in enumerate(difficulty)]
    # Preferences p + a tanh + b d, kept within 0 … 1, with the sums that are known.
    a, b = -0.2, 0.1
    for _ in range(200):
        y = [0.3 + a * r[2] + b * r[3] for r in gamed]
        free = [r for r, v in zip(gamed, y) if 0 < v < 1]
        y = [min(max(v, 0.0), 1.0) for v in y]
        t = GAMED_TANH - sum(v * r[2] for v, r in zip(y, gamed))
        d = GAMED_DIFFICULTY - sum(v * r[3] for v, r in zip(y, gamed))
        if abs(t) + abs(d) < 1e-9:
            break
        tt, td, dd = (sum(r[i] * r[j] for r in free) for i, j in ((2, 2), (2, 3), (3, 3)))
        a, b = a + (t * dd - d * td) / (tt * dd - td * td), b + (d * tt - t * td) / (tt * dd - td * td)
    gamed = [r[:4] + (v,) for r, v in zip(gamed, y)]
    out = []
    for _ in range(models):
        quality, length = rng.gauss(-1.5, 1), rng.uniform(500, 3000)
        rows = []
        for i in range(ROWS):
            base, model = int(rng.uniform(100, 4000)), int(max(1, rng.gauss(length, length / 2)))
            z = quality - math.tanh((base - model) / 1500) + 0.5 * difficulty[i]
            rows.append((i, 1 + 1 / (1 + math.exp(-z - 3 * rng.gauss(0, 1))), base, model))
        out.append(rows)
    return difficulty, gamed, out


WORDS = "the of and to a in is that for it as was with be on not by have from are this but which or an their one all more other would what can also there about when use your each how many these some".split()
# How often in a thousand characters, as in published outputs.
BETWEEN = (("\n\n", 4), ("\n", 3), (' "so-called" ', 0.9), ("’s ", 1))


def long_text(length):
    rng = random.Random(3)
    words = 1000 / (1 + sum(map(len, WORDS)) / len(WORDS))  # in a thousand characters
    out, n = [], 0
    while n < length:
        at = rng.random() * words
        between = " "
        for s, often in BETWEEN:
            if at < often:
                between = s
                break
            at -= often
        out.append(rng.choice(WORDS) + between)
        n += len(out[-1])
    return "".join(out)


LONG = long_text(1 << 18)


def text(rng, length):
    """A text of length characters, with as many line breaks, quotes and characters beyond ASCII as outputs have."""
    at = rng.randrange(len(LONG) // 2)
    return (LONG[at:] + LONG * (length // len(LONG) + 1))[:length]


def completion(preference):
    """A judge's reply, as published files have it."""
    p = min(max((preference or 1.5) - 1, 1e-9), 1 - 1e-9)
    top = [{"token": t, "bytes": [ord(t[0])], "logprob": v} for t, v in (("M", math.log(p)), ("m", math.log(1 - p)), ("Model", -15.2), ("**", -17.1), (" M", -18.4))]
    return {"finish_reason": "length", "index": 0, "logprobs": {"content": [{"token": "m", "bytes": [109], "logprob": top[0]["logprob"], "top_logprobs": top}]},
            "message": {"content": "m", "role": "assistant", "function_call": None, "tool_calls": None}, "text": "m", "total_tokens": 911}


def write_files(folder, difficulty, gamed, models):
    """Writes annotations as alpaca_eval does, and the files that both programs need."""
    rng = random.Random(2)
    instructions = [f"{i + 1}. " + text(rng, 40 + i % 300) for i in range(ROWS)]
    with open(os.path.join(folder, "difficulty.csv"), "w", newline="") as f:
        out = csv.writer(f)
        out.writerow(["instr", "sha256_16", "instruction_difficulty"])
        for i, (s, d) in enumerate(zip(instructions, difficulty)):
            out.writerow([i, hashlib.sha256(s.encode()).hexdigest()[:16], repr(d)])
    if gamed is not None:
        with open(os.path.join(folder, "df_gamed.csv"), "w", newline="") as f:
            out = csv.writer(f)
            out.writerow(["model", "index", "preference", "std_delta_len", "instruction_difficulty", "not_gamed_baseline"])
            for model, i, tanh, d, y in gamed:
                out.writerow([model, i, repr(y), repr(math.atanh(min(max(tanh, -1 + 1e-16), 1 - 1e-16))), repr(d), False])
    baselines = {}
    for k, rows in enumerate(models):
        out = []
        for i, preference, base, model in rows:
            if (i, base) not in baselines:
                baselines[i, base] = text(rng, base)
            out.append({"instruction": instructions[i], "output_1": baselines[i, base], "generator_1": BASELINE, "dataset": "helpful_base",
                        "output_2": text(rng, model), "generator_2": f"model {k}", "annotator": JUDGE, "preference": preference,
                        "raw_completion": completion(preference), "price_per_example": 0.0091, "time_per_example": 0.25})
        with open(os.path.join(folder, f"model{k:03d}.json"), "w") as f:
            json.dump(out, f, indent=2)


def rival(folder, gamed, count):
    """alpaca_eval's figures and time for the first models; runs in a process of its own."""
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    import numpy
    import pandas
    from alpaca_eval.metrics import glm_winrate

    glm_winrate.hf_hub_download = lambda **_: gamed  # it would ask the network every time
    files = sorted(glob.glob(os.path.join(folder, "model*.json")))

    def score(path):
        return glm_winrate.get_length_controlled_winrate(pandas.read_json(path), save_weights_dir=None, is_warn_extreme_changes=False)

    score(files[0])
    wall, cpu = time.perf_counter(), time.process_time()
    figures = [score(path) for path in files[:count]]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    mod5 = bool((numpy.argsort(numpy.zeros(3 * ROWS)) == numpy.arange(3 * ROWS)).all())
    keys = ("win_rate", "standard_error", "length_controlled_winrate", "lc_standard_error", "n_total")
    print(json.dumps({"seconds": wall / len(figures), "cpu": cpu / len(figures), "folds": "mod5" if mod5 else "introsort",
                      "figures": [{k: float(m[k]) for k in keys} for m in figures]}))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--expo", help="the program; built from this repository if it is not given")
    p.add_argument("--models", type=int, default=200, help="models that expo scores in one command")
    p.add_argument("--rival-models", type=int, default=10, help="models that alpaca_eval scores in a round")
    p.add_argument("--files", type=int, default=60, help="different models; expo gets their files again to reach --models")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--gamed", help="df_gamed.csv of alpaca_eval's data set")
    p.add_argument("--rival", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.rival:
        return rival(a.rival, a.gamed, a.rival_models)
    data = os.environ.get("EXPO_TESTDATA")
    with tempfile.TemporaryDirectory() as tmp:
        expo = Expo(a.expo, tmp)
        difficulty, gamed, models = published(os.path.join(data, "alpacaeval")) if data else made_up(a.files)
        write_files(tmp, difficulty, None if a.gamed else gamed, models[:a.files])
        a.gamed = os.path.abspath(a.gamed) if a.gamed else os.path.join(tmp, "df_gamed.csv")
        files = sorted(glob.glob(os.path.join(tmp, "model*.json")))
        many = (files * (a.models // len(files) + 1))[:a.models]
        result = {"models": len(many), "rows": ROWS, "bytes_per_model": sum(map(os.path.getsize, files)) // len(files), "data": "published" if data else "made up"}
        every = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))
        apart = {}
        for name, cores in (("one_core", every[:1]), ("all_cores", every)):
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, cores)  # both programs inherit it
            env = dict(os.environ, GOMAXPROCS=str(len(cores)))
            ours, theirs = [], []
            for _ in range(a.rounds):
                command = [sys.executable, os.path.abspath(__file__), "--rival", tmp, "--gamed", a.gamed, "--rival-models", str(a.rival_models)]
                said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout)
                theirs.append(said["seconds"])
                run = expo.must("eval", "alpaca", "--annotations", *many, "--gamed", a.gamed, "--difficulty", os.path.join(tmp, "difficulty.csv"),
                                "--lc-folds", said["folds"], "--json", env=env)
                ours.append(run.seconds / len(many))
                scored = json.loads(run.stdout)
                for got, want in zip(scored.get("models", [scored]), said["figures"]):
                    for k, v in want.items():
                        apart[k] = max(apart.get(k, 0), abs(got[k] - v))
            result[name] = {"cores": len(cores), "alpaca_eval_seconds": round(min(theirs), 5), "expo_seconds": round(min(ours), 5), "ratio": round(min(theirs) / min(ours), 1)}
        result["folds"], result["figures_apart"] = said["folds"], apart
        print(json.dumps(result, indent=2))


main()
