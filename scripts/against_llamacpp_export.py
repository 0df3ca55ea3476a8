#!/usr/bin/env python3
"""Open the GGUF files that `expo export` writes with llama.cpp.

For each type llama.cpp must load the file, give the same token ids as expo's own
tokenizer for texts with and without special tokens, hold the same chat template,
and come to nearly the same perplexity on a text as expo does with the same file.

    pip install llama-cpp-python==0.3.36
    scripts/against_llamacpp_export.py MODEL [--types F16,Q4_K_M] [--expo PATH]

With --tokenizer MODEL is a directory that has a tokenizer only; a small model of
random weights is put to it.
"""

import argparse
import ctypes
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile

import llama_cpp
import numpy as np

TYPES = "F32,F16,BF16,Q8_0,Q4_0,Q4_1,Q5_0,Q5_1,Q4_K_S,Q4_K_M,Q5_K_S,Q5_K_M,Q6_K"

TEXTS = [
    "Hello, world!", " a leading space", "  two", "one\ntwo\n\nthree\r\n", "\ttabs\tand  spaces   ", "1234567 3.14", "don't WE'LL",
    "größer naïve Ελλάδα русский", "日本語と한국어", "emoji 🦙🚀 ﬁne ½", "def f(x):\n    return x**2  # squared\n", "\u00a0no break",
    "e\u0301", "<s>a</s> b", "<|im_start|>user\nhi<|im_end|>\n", "[INST] hi [/INST]", "<|begin_of_text|>x<|eot_id|> y",
    "a\x00b", "x" * 300, "!?#$%^&*()_+{}|:\"<>?-=[]\\;',./`~", "नमस्ते दुनिया", "مرحبا بالعالم", "\ufffd\u200d\u2028",
]

STORY = """The lighthouse keeper kept two books. In one she wrote down the ships that passed, with the hour and the
wind, and in the other what she would have said to them if they could have heard her. When the second book was full she
began to read it aloud in the evenings, to nobody, and it turned out that most of it was questions. Where are you going?
Is it warm there? Do they still sell oranges by the harbour? The ships went on passing, and none of them answered, but
the gulls came closer every night. One morning a small boat lay at the foot of the rock. A man sat in it who had rowed
all night. He said that he had heard somebody ask about oranges, and he had brought three."""


ROPES = {
    "default": None,
    "linear": dict(rope_type="linear", factor=4.0, rope_theta=10000.0),
    "llama3": dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64, rope_theta=10000.0),
    "yarn": dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64, rope_theta=10000.0),
}


def intern(path):
    """Turns a Llama into an InternLM2: other names, and one matrix for queries, keys and values."""
    from safetensors.torch import load_file, save_file
    import torch

    with open(os.path.join(path, "config.json")) as f:
        c = json.load(f)
    d, kv = c["hidden_size"] // c["num_attention_heads"], c["num_key_value_heads"]
    old, new = load_file(os.path.join(path, "model.safetensors")), {}
    names = {
        "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2",
        "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm", "model.embed_tokens": "model.tok_embeddings", "lm_head": "output",
    }
    for name, t in old.items():
        if "q_proj" in name:
            parts = [old[name.replace("q_proj", x + "_proj")].reshape(kv, -1, d, c["hidden_size"]) for x in "qkv"]
            new[name.replace("self_attn.q_proj", "attention.wqkv")] = torch.cat(parts, 1).reshape(-1, c["hidden_size"]).contiguous()
        elif "k_proj" not in name and "v_proj" not in name:
            for a, b in names.items():
                name = name.replace(a, b)
            new[name] = t
    save_file(new, os.path.join(path, "model.safetensors"))
    c.update(model_type="internlm2", architectures=["InternLM2ForCausalLM"], bias=False)
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump(c, f)


def tiny(tokenizer, path, arch, rope):
    """A model with random weights for a tokenizer."""
    import torch
    import transformers

    shutil.copytree(tokenizer, path)
    for name in os.listdir(path):
        os.chmod(os.path.join(path, name), 0o644)
        if ".model" in name and name != "tokenizer.model":
            os.rename(os.path.join(path, name), os.path.join(path, "tokenizer.model"))
        if name in ("config.json", "model.safetensors.index.json", "model.safetensors", "generation_config.json"):
            os.remove(os.path.join(path, name))
    # expo says how many tokens there are, by refusing too few rows.
    rows = 256
    family = {"qwen2": "Qwen2", "mistral": "Mistral"}.get(arch, "Llama")
    while True:
        torch.manual_seed(1)
        keys = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                    vocab_size=rows, bos_token_id=1, eos_token_id=2, max_position_embeddings=256)
        if ROPES[rope]:
            keys["rope_parameters"] = ROPES[rope]
        model = getattr(transformers, family + "ForCausalLM")(getattr(transformers, family + "Config")(**keys))
        for name, p in model.named_parameters():
            # Attention has to matter for the order of its rows to show.
            p.data = torch.randn_like(p) * (4 / math.sqrt(p.shape[-1]) if "q_proj.w" in name or "k_proj.w" in name else 0.1) + ("norm" in name)
        model.to(torch.bfloat16).save_pretrained(path)
        if arch == "internlm2":
            intern(path)
        r = subprocess.run([EXPO, "export", path, "-o", path + ".gguf", "--dry-run", "-q"], capture_output=True, text=True)
        if "embedding" not in r.stderr:
            return
        rows = int(r.stderr.split("the tokenizer has ")[1].split()[0])


def expo(*args, rows=None):
    text = "".join(json.dumps(r) + "\n" for r in rows) if rows is not None else None
    r = subprocess.run([EXPO, *args], input=text, capture_output=True, text=True)
    if r.returncode:
        raise SystemExit(f"expo {' '.join(args)}: {r.stderr}")
    for line in r.stderr.splitlines():
        if "warning" in line:
            print("   ", line)
    return [json.loads(line) for line in r.stdout.splitlines()] if rows is not None else r.stdout


def check(model, path, kind):
    expo("export", model, "-o", path, "--quant", kind, "-q", "--force", "--no-sync")
    llm = llama_cpp.Llama(path, n_ctx=512, logits_all=True, verbose=False)
    faults = []

    texts = TEXTS
    ours = [r["ids"] for r in expo("tokenize", model, "--jsonl", rows=[dict(text=t) for t in texts])]
    differ = [t for t, ids in zip(texts, ours) if llm.tokenize(t.encode(), add_bos=True, special=True) != ids]
    if differ:
        faults.append(f"{len(differ)} of {len(texts)} texts have other ids: {differ[:4]}")

    template = llm.metadata.get("tokenizer.chat_template")
    messages = [dict(role="user", content="Who are you?"), dict(role="assistant", content="A model."), dict(role="user", content="Of whom?")]
    if template:
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        piece = lambda i: llm._model.token_get_text(i) if i >= 0 else ""
        theirs = Jinja2ChatFormatter(template, eos_token=piece(llm.token_eos()), bos_token=piece(llm.token_bos()))(messages=messages).prompt
        mine = expo("tokenize", model, "--jsonl", rows=[dict(messages=messages)])[0]["text"]
        if not mine.startswith(theirs) and not theirs.startswith(mine):
            faults.append(f"template: expo {mine!r}, llama.cpp {theirs!r}")

    ids = llm.tokenize(STORY.encode(), add_bos=True, special=True)[:256]
    llm.reset()
    llm.eval(ids)
    logits = np.array(llm.scores[: len(ids)], dtype=np.float64)
    logp = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    theirs = -np.mean([logp[i, t] for i, t in enumerate(ids[1:])])
    perplexity = {}
    for what, where in [("file", path), ("model", model)]:
        row = expo("score", where, rows=[dict(prompt=ids[:1], continuation=ids[1:])])[0]
        perplexity[what] = -row["logprob"] / (len(ids) - 1)
    if abs(theirs - perplexity["file"]) > 0.02:
        faults.append("perplexity differs")
    print(f"{kind:7} llama.cpp {math.exp(theirs):9.3f}, expo {math.exp(perplexity['file']):9.3f}; the model itself {math.exp(perplexity['model']):9.3f}"
          + (", template equal" if template else "") + f"; {len(texts) - len(differ)} of {len(texts)} texts")
    for f in faults:
        print("   ", f)
    llm.close()
    return not faults


def main():
    global EXPO
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("model")
    args.add_argument("--expo", default="expo", help="the program")
    args.add_argument("--types", default=TYPES)
    args.add_argument("--tokenizer", action="store_true")
    args.add_argument("--arch", default="llama", choices=["llama", "mistral", "qwen2", "internlm2"], help="of the random weights")
    args.add_argument("--rope", default="default", choices=ROPES, help="of the random weights")
    args.add_argument("--dir", help="where files are written (default: a temporary directory)")
    o = args.parse_args()
    EXPO = o.expo
    with tempfile.TemporaryDirectory(dir=o.dir) as tmp:
        model = o.model
        if o.tokenizer:
            model = os.path.join(tmp, "model")
            tiny(o.model, model, o.arch, o.rope)
        good = [check(model, os.path.join(tmp, "model.gguf"), kind) for kind in o.types.split(",")]
        sys.exit(not all(good))


if __name__ == "__main__":
    main()
