#!/usr/bin/env python3
"""Holds expo's MT-Bench against FastChat's llm_judge: figures, files, prompts, speed.

    pip install --no-deps fschat && pip install pandas numpy tqdm openai anthropic
    EXPO_TESTDATA=DIR python scripts/bench_mtbench.py [--expo PATH]

Two models answer, and two judges judge, all of them one small server that this
script runs, whose replies depend only on what it is asked. Then

  - FastChat's gen_judgment reads the answers that expo wrote and judges them, single
    and in pairs, with the same judge: both must ask the same and record the same;
  - FastChat's show_result reads expo's judgments, and expo reads FastChat's: each must
    find in the other's file what it finds in its own;
  - both score the judgments recorded in DIR/leaderboard/mtbench/judgments, and the
    time of whole processes is compared, start included; that of show_result alone,
    after its imports, is given too.

Everything that should be the same and is not is printed, and the status is then 1;
the figures go to stdout as JSON. DIR/leaderboard/mtbench holds FastChat's own
question.jsonl, judge_prompts.jsonl and reference_answer_gpt-4.jsonl; --data names
another folder that does. Of FastChat everything runs as it is, but that the server
takes OpenAI's place, and that the name of a judge is not looked up among models,
for which it would need PyTorch.
"""

import argparse
import glob
import gzip
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from expo_command import Expo

MODELS = ("first", "second")
JUDGE = "gpt-4"


def reply(system, prompt):
    """What the judge says, or a model answers."""
    n = int(hashlib.sha256((system + "\0" + prompt).encode()).hexdigest(), 16)
    if "[[rating]]" in system + prompt or "Rating: [[" in system + prompt:
        forms = ("A good answer.\n\nRating: [[%d]]", "Rating: [[%d.5]]", "I would say [%d].", "No rating at all %d.", "[[%d]] or rather [[3]]")
        return forms[n % len(forms) if n % 5 != 3 or n % 7 == 0 else 0] % (1 + n // 64 % 9)
    if "[[A]]" in system + prompt:
        return ("My verdict: [[A]]", "[[B]] is better", "[[C]]", "Neither [[D]]", "[[A]] not [[B]]")[n % 5]
    return f"An answer with “quotes”, {{braces}} and\n\ta tab: {n % 10**9}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = body["messages"]
        system = "".join(m["content"] for m in messages if m["role"] == "system")
        asked = messages[-1]["content"]
        if not system:  # a model answers: its name and the whole conversation count
            asked = body["model"] + json.dumps(messages)
        out = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": body["model"],
                          "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply(system, asked)}}],
                          "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    def log_message(self, *_):
        pass


def fastchat():
    """FastChat's llm_judge without what only its model zoo needs."""
    import types
    import warnings

    warnings.simplefilter("ignore")
    from fastchat.conversation import get_conv_template

    package, adapter = types.ModuleType("fastchat.model"), types.ModuleType("fastchat.model.model_adapter")
    adapter.get_conversation_template = lambda _: get_conv_template("chatgpt")  # as for any model of OpenAI
    adapter.OPENAI_MODEL_LIST, adapter.ANTHROPIC_MODEL_LIST = [JUDGE], []
    sys.modules.update({"fastchat.model": package, "fastchat.model.model_adapter": adapter})
    from fastchat.llm_judge import common

    return common


def rival_judge(mode):
    """gen_judgment on the folder data, in a process of its own."""
    import builtins
    import runpy

    common = fastchat()

    def chat(model, conv, temperature, max_tokens, api_dict=None):
        messages = conv.to_openai_api_messages()
        return reply("".join(m["content"] for m in messages if m["role"] == "system"), messages[-1]["content"])

    common.chat_completion_openai = chat
    builtins.input = lambda *_: ""
    sys.argv = ["gen_judgment", "--judge-model", JUDGE, "--mode", mode]
    runpy.run_module("fastchat.llm_judge.gen_judgment", run_name="__main__")


def rival_show(mode, path):
    """The tables that show_result prints, not rounded, in a process of its own."""
    from fastchat.llm_judge import show_result

    tables = []
    show_result.print = lambda *a: tables.extend(x for x in a if hasattr(x, "iterrows"))
    args = argparse.Namespace(bench_name="mt_bench", input_file=path, judge_model=JUDGE, baseline_model=None, model_list=None, mode=mode)
    if mode == "single":
        show_result.display_result_single(args)
        out = {}
        for name, table in zip(("turn1", "turn2", "all"), tables):
            for index, row in table.iterrows():
                out.setdefault(index if name == "all" else index[0], {})[name] = row["score"]
    else:
        show_result.display_result_pairwise(args)
        out = {model: {k: float(v) for k, v in row.items()} for model, row in tables[0].iterrows()}
    print(json.dumps(out))


def rival_time(rounds, path):
    """Seconds of show_result alone, once everything has been imported."""
    from fastchat.llm_judge import show_result

    show_result.print = lambda *_: None
    args = argparse.Namespace(bench_name="mt_bench", input_file=path, judge_model=JUDGE, baseline_model=None, model_list=None, mode="single")
    seconds = []
    for _ in range(int(rounds) + 1):
        start = time.perf_counter()
        show_result.display_result_single(args)
        seconds.append(time.perf_counter() - start)
    print(min(seconds[1:]))


class Check:
    def __init__(self):
        self.faults, self.figures = 0, {}

    def same(self, what, got, want):
        if got != want:
            self.faults += 1
            print(f"{what}: expo has {str(got)[:300]}, FastChat {str(want)[:300]}", file=sys.stderr)

    def close(self, what, got, want):
        if got is None or abs(got - want) > 1e-12 * max(1, abs(want)):
            self.same(what, got, want)


def read(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--expo", help="the program; built from this repository if it is not given")
    p.add_argument("--data", help="the folder of FastChat's files")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--rival", nargs="+", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.rival:
        return {"judge": rival_judge, "show": rival_show, "time": rival_time}[a.rival[0]](*a.rival[1:])
    data = a.data or os.path.join(os.environ.get("EXPO_TESTDATA", ""), "leaderboard", "mtbench")
    files = {n: os.path.join(data, n) for n in ("question.jsonl", "judge_prompts.jsonl", "reference_answer_gpt-4.jsonl")}
    missing = [f for f in files.values() if not os.path.exists(f)]
    if missing:
        sys.exit(f"{', '.join(missing)}: not there; --data or EXPO_TESTDATA names the folder of FastChat's files")
    c = Check()
    with tempfile.TemporaryDirectory() as tmp:
        expo = Expo(a.expo, tmp)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        inputs = ["--questions", files["question.jsonl"], "--judge-prompts", files["judge_prompts.jsonl"], "--reference-answers", files["reference_answer_gpt-4.jsonl"]]

        def rival(*args):
            return subprocess.run([sys.executable, os.path.abspath(__file__), "--rival", *args], cwd=tmp, check=True, stdout=subprocess.PIPE, text=True).stdout

        def score(path):
            r = expo.run("eval", "mtbench", "--judgments", path, "--bootstrap", "0", "--json")
            if r.status not in (0, 4):  # 4: some have no rating
                sys.exit(f"{path}: status {r.status}: {r.stderr}")
            return json.loads(r.stdout)

        def show(mode, path):
            theirs, ours = json.loads(rival("show", mode, path)), score(path)
            if mode == "single":
                c.same(f"{path}: models", sorted(ours["models"]), sorted(theirs))
                for model, row in theirs.items():
                    for k, v in row.items():
                        c.close(f"{os.path.basename(path)}: {model}: {k}", ours["models"][model][k], v)
            else:
                c.same(f"{path}: models", sorted(ours["pairs"]["models"]), sorted(theirs))
                for model, row in theirs.items():
                    for k, v in {"wins": "win", "losses": "loss", "ties": "tie", "win_rate": "win_rate", "loss_rate": "loss_rate", "win_rate_adjusted": "win_rate_adjusted"}.items():
                        c.close(f"{os.path.basename(path)}: {model}: {k}", ours["pairs"]["models"][model][k], row[v])
            return ours

        # expo answers and judges.
        for model in MODELS:
            expo.must("eval", "mtbench", "--base-url", url, "--model", model, "--name", model, "--answers-only", *inputs, "-o", os.path.join(tmp, "answers"), "--force")
        answers = os.path.join(tmp, "answers", "model_answer")
        c.same("answer files", sorted(os.listdir(answers)), [m + ".jsonl" for m in MODELS])
        r = expo.run("eval", "mtbench", "--answers", answers, "--mode", "both", "--judge-base-url", url, "--judge-model", JUDGE, "--judge-name", JUDGE, "--judge-tries", "1",
                     *inputs, "-o", os.path.join(tmp, "judged"))
        if r.status not in (0, 4):
            sys.exit(r.stderr)

        # FastChat judges the same answers.
        bench = os.path.join(tmp, "data", "mt_bench")
        os.makedirs(os.path.join(bench, "reference_answer"))
        shutil.copy(files["question.jsonl"], bench)
        shutil.copy(files["reference_answer_gpt-4.jsonl"], os.path.join(bench, "reference_answer", "gpt-4.jsonl"))
        shutil.copy(files["judge_prompts.jsonl"], os.path.join(tmp, "data"))
        shutil.copytree(answers, os.path.join(bench, "model_answer"))
        for mode, name, keys in (("single", f"{JUDGE}_single.jsonl", ("question_id", "model", "turn")), ("pairwise-all", f"{JUDGE}_pair.jsonl", ("question_id", "model_1", "model_2", "turn"))):
            rival("judge", mode)
            ours, theirs = (os.path.join(d, "model_judgment", name) for d in (os.path.join(tmp, "judged"), bench))
            a_rows, b_rows = ({tuple(r[k] for k in keys): r for r in read(path)} for path in (ours, theirs))
            c.same(f"{name}: what was judged", sorted(a_rows), sorted(b_rows))
            for k in sorted(set(a_rows) & set(b_rows)):
                for field, want in b_rows[k].items():
                    if field != "tstamp":
                        c.same(f"{name}: {k}: {field}", a_rows[k].get(field), want)
            c.figures[name] = len(b_rows)
            show("single" if mode == "single" else "pairwise-all", ours)
            show("single" if mode == "single" else "pairwise-all", theirs)

        # What was recorded by others, and how long both take.
        recorded = sorted(glob.glob(os.path.join(data, "judgments", "*_single.jsonl*"))) + sorted(glob.glob(os.path.join(data, "judgments", "*_pair.jsonl*")))
        every = os.path.join(tmp, "every_single.jsonl")
        for path in recorded:
            with gzip.open(path, "rt") if path.endswith(".gz") else open(path) as f:
                text = f.read()
            plain = os.path.join(tmp, re.sub(r"\.gz$", "", os.path.basename(path)))
            with open(plain, "w") as f:
                f.write(text)
            ours = show("single" if "_single" in path else "pairwise-all", plain)
            c.figures[os.path.basename(plain)] = len(ours["models"]) or len(ours["pairs"]["models"])
            if "_single" in path:
                with open(every, "a") as f:
                    f.write(text)
        if os.path.exists(every):
            show("single", every)
            theirs, ours = [], []
            for _ in range(a.rounds):
                start = time.perf_counter()
                subprocess.run([sys.executable, "-m", "fastchat.llm_judge.show_result", "--input-file", every], check=True, stdout=subprocess.PIPE)
                theirs.append(time.perf_counter() - start)
                start = time.perf_counter()
                score(every)
                ours.append(time.perf_counter() - start)
            c.figures["judgments"] = sum(1 for _ in open(every))
            c.figures["fastchat_seconds"], c.figures["expo_seconds"] = round(min(theirs), 4), round(min(ours), 4)
            c.figures["fastchat_seconds_without_imports"] = round(float(rival("time", str(a.rounds), every)), 4)
            c.figures["ratio"] = round(min(theirs) / min(ours), 1)
        server.shutdown()
    c.figures["differences"] = c.faults
    print(json.dumps(c.figures, indent=2))
    sys.exit(1 if c.faults else 0)


main()
