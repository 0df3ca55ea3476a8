#!/usr/bin/env python3
"""Compare `expo export` with llama.cpp's quantizer, byte by byte and in time.

For each type the F32 file that expo wrote is quantized by llama.cpp, and its
tensors are compared with those of the file that expo wrote directly. Each tensor
must have the same type, shape and bytes. With --imatrix both weigh errors by the
importance matrix that expo computes from a text.

    pip install llama-cpp-python==0.3.36 gguf==0.19.0
    scripts/against_quantize.py MODEL [--types Q8_0,Q4_K_M] [--imatrix TEXT] [--dir DIR] [--threads N]

MODEL is a directory, or a number of layers: then a model with random weights of
a Llama is made, of which llama.cpp's mixtures can be told.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import gguf
import llama_cpp
import numpy as np

FILE_TYPES = {
    "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q5_1": 9,
    "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18,
}
UNWEIGHTED = {"F16", "BF16", "Q8_0"}


def random_model(path, layers, tied):
    """A Llama of few parameters whose rows fill blocks of 256."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(layers)
    config = LlamaConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=300, tie_word_embeddings=tied,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(path)
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{i:02X}>": i + 3 for i in range(256)}}
    for i in range(len(vocab), 300):
        vocab[chr(0x4E00 + i)] = i
    added = [dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
             for i, t in enumerate(["<unk>", "<s>", "</s>"])]
    tokenizer = dict(
        version="1.0", truncation=None, padding=None, added_tokens=added, post_processor=None, pre_tokenizer=None,
        normalizer=dict(type="Sequence", normalizers=[dict(type="Prepend", prepend="▁"), dict(type="Replace", pattern=dict(String=" "), content="▁")]),
        decoder=dict(type="ByteFallback"),
        model=dict(type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None, end_of_word_suffix=None,
                   fuse_unk=True, byte_fallback=True, ignore_merges=False, vocab=vocab, merges=[]),
    )
    with open(os.path.join(path, "tokenizer.json"), "w") as f:
        json.dump(tokenizer, f)
    with open(os.path.join(path, "tokenizer_config.json"), "w") as f:
        json.dump(dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>"), f)


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def compare(ours, theirs):
    a, b = tensors(ours), tensors(theirs)
    wrong = [f"only one file has {name}" for name in sorted(a.keys() ^ b.keys())]
    for name in sorted(a.keys() & b.keys()):
        x, y = a[name], b[name]
        if x.tensor_type != y.tensor_type or list(x.shape) != list(y.shape):
            wrong.append(f"{name}: {x.tensor_type.name} {list(x.shape)}, llama.cpp {y.tensor_type.name} {list(y.shape)}")
            continue
        xb, yb = x.data.reshape(-1).view(np.uint8), y.data.reshape(-1).view(np.uint8)
        if not np.array_equal(xb, yb):
            block = gguf.GGML_QUANT_SIZES[x.tensor_type][1]
            differ = (xb.reshape(-1, block) != yb.reshape(-1, block)).any(axis=1)
            wrong.append(f"{name}: {x.tensor_type.name}: {differ.sum()} of {differ.size} blocks differ")
    return wrong, len(a)


def importance(path):
    """The matrix in a file, by tensor, as llama-quantize reads it."""
    parts = tensors(path)
    entries = {}
    for name, t in parts.items():
        if not name.endswith(".in_sum2"):
            continue
        name = name.removesuffix(".in_sum2")
        counts = np.array(parts[name + ".counts"].data, np.float32).reshape(-1, 1)
        sums = np.array(t.data, np.float32).reshape(len(counts), -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            entries[name] = np.where(counts > 0, sums / counts, np.float32(1)).astype(np.float32).reshape(-1)
    return entries


def quantize(source, target, file_type, threads, matrix=None):
    p = llama_cpp.llama_model_quantize_default_params()
    p.ftype, p.nthread = file_type, threads
    if matrix:
        data = (llama_cpp.llama_model_imatrix_data * (len(matrix) + 1))()  # the last has no name
        for entry, (name, values) in zip(data, matrix.items()):
            entry.name, entry.size = name.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        p.imatrix = ctypes.cast(data, ctypes.POINTER(llama_cpp.llama_model_imatrix_data))
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(p)) != 0:
        raise SystemExit(f"llama.cpp cannot quantize {source}")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("model")
    args.add_argument("--expo", default="expo", help="the program")
    args.add_argument("--types", default=",".join(FILE_TYPES))
    args.add_argument("--imatrix", metavar="TEXT", help="a text to compute the importance matrix of the columns from")
    args.add_argument("--dir", help="where files are written (default: a temporary directory)")
    args.add_argument("--threads", type=int, default=os.cpu_count())
    args.add_argument("--repeat", type=int, default=1, help="time so many runs of each and take the fastest")
    args.add_argument("--tied", action="store_true", help="of a random model: the head is the embedding")
    o = args.parse_args()
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))

    with tempfile.TemporaryDirectory(dir=o.dir) as tmp:
        model = o.model
        if model.isdigit():
            model = os.path.join(tmp, "random")
            random_model(model, int(o.model), o.tied)

        def cpu():
            u = resource.getrusage(resource.RUSAGE_CHILDREN)
            return u.ru_utime + u.ru_stime

        def export(name, kind, *more):
            start, before = time.monotonic(), cpu()
            subprocess.run([o.expo, "export", model, "-o", name, "--quant", kind, "-q", "-j", str(o.threads), "--force", "--no-sync", *more],
                           check=True, stdout=subprocess.DEVNULL)
            return time.monotonic() - start, cpu() - before

        full = os.path.join(tmp, "f32.gguf")
        export(full, "F32")
        weights, matrix = [], None
        if o.imatrix:
            path = os.path.join(tmp, "imatrix.gguf")
            export(os.path.join(tmp, "ours.gguf"), "Q4_0", "--imatrix", o.imatrix, "--save-imatrix", path)
            weights, matrix = ["--imatrix", path], importance(path)
            print(f"importance of {len(matrix)} matrices")
        failed = False
        for kind in o.types.split(","):
            weighted = kind not in UNWEIGHTED
            ours, theirs = os.path.join(tmp, "ours.gguf"), os.path.join(tmp, "theirs.gguf")
            mine, yours = [], []
            for _ in range(o.repeat):
                mine.append(export(ours, kind, *(weights if weighted else [])))
                start, before = time.monotonic(), time.process_time()
                quantize(full, theirs, FILE_TYPES[kind], o.threads, matrix if weighted else None)
                yours.append((time.monotonic() - start, time.process_time() - before))
            wrong, n = compare(ours, theirs)
            (wall, used), (wall2, used2) = (tuple(map(min, zip(*x))) for x in (mine, yours))
            print(f"{kind:7} {n - len(wrong)} of {n} tensors equal; {wall:.2f} s, llama.cpp {wall2:.2f} s: {wall2 / wall:.2f} x; "
                  f"processors {used:.2f} s, {used2:.2f} s: {used2 / used:.2f} x")
            for line in wrong[:10]:
                print("       ", line)
            failed |= bool(wrong)
        sys.exit(failed)


if __name__ == "__main__":
    main()
