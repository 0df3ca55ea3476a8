"""Writes goldens.json: what transformers computes with tiny random models.

    python3 make_goldens.py

needs torch and transformers; the committed file was made with torch 2.8.0 and
transformers 5.23.0 on the CPU. Weights are not stored: element i of a tensor is
a hash of its name and i, which golden_test.go computes too.

InternLM2 has no class in transformers. Its case is a Llama with the weights
that wqkv is cut into, which is how its own Python file defines it.
"""

import json
import sys

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

M64 = (1 << 64) - 1


def uniform(name, n):
    """n float64 in [-1/2, 1/2), from SplitMix64 seeded with FNV-1a of name."""
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & M64
    z = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / (1 << 24) - 0.5


def weight(name, shape, dtype):
    u = uniform(name, int(np.prod(shape)))
    if "norm" in name:
        x = 1 + u / 2
    elif name.endswith("bias"):
        x = u / 2
    elif "embed" in name or "tok_" in name:
        x = 2 * u
    else:
        x = u * (3 / np.sqrt(shape[-1]))
    return torch.tensor(x.astype(np.float32).reshape(shape)).to(dtype)


BASE = dict(
    hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
    vocab_size=96, max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
    tie_word_embeddings=False,
)


def rope(**kw):
    return dict(rope_parameters=dict(rope_theta=10000.0, **kw))


CASES = [
    ("llama", "llama", {}),
    ("llama tied", "llama", dict(tie_word_embeddings=True)),
    ("llama biases", "llama", dict(attention_bias=True, mlp_bias=True)),
    ("llama head_dim", "llama", dict(head_dim=20, num_attention_heads=4, num_key_value_heads=1)),
    ("llama no gqa", "llama", dict(num_key_value_heads=6)),
    ("llama llama3", "llama", rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                   original_max_position_embeddings=16)),
    ("llama linear", "llama", rope(rope_type="linear", factor=4.0)),
    ("llama dynamic", "llama", dict(max_position_embeddings=32, **rope(rope_type="dynamic", factor=2.0))),
    ("llama yarn", "llama", rope(rope_type="yarn", factor=8.0, original_max_position_embeddings=16)),
    ("mistral window", "mistral", dict(sliding_window=8, head_dim=8)),
    ("mistral", "mistral", dict(sliding_window=None)),
    ("qwen2", "qwen2", {}),
    ("qwen2 tied", "qwen2", dict(tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    ("qwen2 window", "qwen2", dict(use_sliding_window=True, sliding_window=6, max_window_layers=1)),
    ("internlm2", "internlm2", dict(rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    ("internlm2 bias", "internlm2", dict(bias=True)),
    ("llama f16", "llama", dict(dtype="float16")),
    ("llama bf16", "llama", dict(dtype="bfloat16")),
    ("llama yarn bf16", "llama", dict(dtype="bfloat16", **rope(rope_type="yarn", factor=8.0, original_max_position_embeddings=16))),
    ("mistral window bf16", "mistral", dict(sliding_window=8, dtype="bfloat16")),
    ("qwen2 bf16", "qwen2", dict(dtype="bfloat16")),
    ("internlm2 bf16", "internlm2", dict(dtype="bfloat16")),
    ("llama classes", "llama", dict(num_labels=3, pad_token_id=0)),
    ("llama reward", "llama", dict(num_labels=1, pad_token_id=2)),
    ("mistral reward", "mistral", dict(num_labels=1, sliding_window=None)),
    ("qwen2 reward bf16", "qwen2", dict(num_labels=1, pad_token_id=2, dtype="bfloat16")),
]

# As transformers 4 wrote it.
OLD = {"llama", "llama llama3", "llama linear", "llama dynamic", "llama yarn", "mistral window", "qwen2", "llama bf16"}


def old_form(config):
    p = config.pop("rope_parameters")
    config["rope_theta"] = p.pop("rope_theta")
    kind = p.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type" if kind == "linear" else "rope_type": kind, **p}
    config["torch_dtype"] = config.pop("dtype", "float32")
    if config["model_type"] == "qwen2":
        config["sliding_window"] = 131072
        config.pop("layer_types")
    return config


def internlm2_names(config, name, shape, dtype):
    """A Llama tensor as InternLM2 names and stores it."""
    h, d = config.hidden_size, config.hidden_size // config.num_attention_heads
    kv = config.num_key_value_heads
    g = config.num_attention_heads // kv
    for a, b in [("model.embed_tokens", "model.tok_embeddings"), ("lm_head", "output"),
                 ("input_layernorm", "attention_norm"), ("post_attention_layernorm", "ffn_norm"),
                 ("self_attn.o_proj", "attention.wo"), ("mlp.gate_proj", "feed_forward.w1"),
                 ("mlp.up_proj", "feed_forward.w3"), ("mlp.down_proj", "feed_forward.w2")]:
        if a in name:
            return weight(name.replace(a, b), shape, dtype)
    for i, p in enumerate(["q_proj", "k_proj", "v_proj"]):
        if p in name:
            name = name.replace("self_attn." + p, "attention.wqkv")
            full = weight(name, (kv * (g + 2) * d,) + tuple(shape[1:]), dtype).reshape(kv, g + 2, d, *shape[1:])
            return [full[:, :g], full[:, g], full[:, g + 1]][i].reshape(shape)
    return weight(name, shape, dtype)


def run(title, kind, change):
    change = dict(BASE, **change)
    dtype = getattr(torch, change.pop("dtype", "float32"))
    labels = change.pop("num_labels", 0)
    bias = change.pop("bias", False)
    torch_kind = kind
    if kind == "internlm2":
        torch_kind = "llama"
        change["attention_bias"] = bias
    config = AutoConfig.for_model(torch_kind, dtype=dtype, **change)
    if labels:
        config.num_labels = labels
    auto = AutoModelForSequenceClassification if labels else AutoModelForCausalLM
    model = auto.from_config(config, dtype=dtype).eval()
    # Model.to(dtype) would round these, which from_pretrained does not.
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    for name, p in model.named_parameters():
        make = weight if kind != "internlm2" else lambda *a: internlm2_names(config, *a)
        p.data = make(name, tuple(p.shape), dtype)
    model.tie_weights()
    config.architectures = [type(model).__name__]
    said = json.loads(config.to_json_string(use_diff=False))
    said = {k: said[k] for k in said if k in change or k in (
        "architectures", "model_type", "head_dim", "rope_parameters", "dtype", "hidden_act", "layer_types",
        "id2label", "pad_token_id", "use_sliding_window", "max_window_layers", "sliding_window")}
    said["dtype"] = str(dtype)[6:]
    if kind == "internlm2":
        said.update(model_type="internlm2", architectures=["InternLM2ForCausalLM"], bias=bias)
        said.pop("head_dim")
        said.pop("attention_bias")
    if title in OLD:
        said = old_form(said)
    ids = [1] + [int(x) for x in (uniform(title + " ids", 39) + 0.5) * 93 + 3]
    case = dict(name=title, config=said, ids=ids)
    with torch.no_grad():
        if labels:
            case["sequences"] = [ids[:11], ids[:11] + [2], ids[:7] + [0]]
            case["outputs"] = [model(torch.tensor([s])).logits[0].float().tolist() for s in case["sequences"]]
            return case
        logits = model(torch.tensor([ids])).logits[0].float()
        case["positions"] = [0, 20, 39]
        case["logits"] = [[float("%.7g" % v) for v in logits[p].tolist()] for p in case["positions"]]
        # A fresh model, since dynamic rope remembers the longest call.
        fresh = auto.from_config(config, dtype=dtype).eval()
        fresh.load_state_dict(model.state_dict())
        cache, step, out, margins = None, ids[:20], [], []
        for _ in range(64):
            r = fresh(torch.tensor([step]), past_key_values=cache, use_cache=True)
            cache = r.past_key_values
            last = r.logits[0, -1].float()
            top = torch.topk(last, 2).values
            margins.append(float(top[0] - top[1]))
            step = [int(last.argmax())]
            out += step
        case["greedy"] = out
        case["smallest_margin"] = float("%.3g" % min(margins))
    return case


def main():
    torch.manual_seed(0)
    cases = [run(*c) for c in CASES]
    out = dict(torch=torch.__version__, transformers=transformers.__version__, cases=cases)
    with open(sys.argv[1] if len(sys.argv) > 1 else "goldens.json", "w") as f:
        f.write("{\n")
        f.write(f' "torch": "{out["torch"]}", "transformers": "{out["transformers"]}",\n "cases": [\n')
        f.write(",\n".join("  " + json.dumps(c, separators=(",", ":")) for c in cases))
        f.write("\n ]\n}\n")


main()
