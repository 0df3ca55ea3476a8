"""Writes gradients.json: losses, gradients and steps of AdamW by PyTorch's autograd
and optimizer on transformers' models, in float64, for TestAgainstPyTorch.

    python gradients.py > gradients.json      (torch 2.8.0, transformers 5.23.0)

Weights are a formula, so that only the results are stored.
"""
import json
import math
import sys

import torch
import torch.nn.functional as F
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, Qwen2Config, Qwen2ForCausalLM

SHAPE = dict(hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=23, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, attention_dropout=0.0)
# The order of the parameters, which the formula counts in.
LAYER = ["self_attn.q_proj.weight", "self_attn.q_proj.bias", "self_attn.k_proj.weight", "self_attn.k_proj.bias",
         "self_attn.v_proj.weight", "self_attn.v_proj.bias", "self_attn.o_proj.weight", "mlp.gate_proj.weight",
         "mlp.up_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight", "post_attention_layernorm.weight"]
# Prompt and response by where the response begins.
SEQUENCES = [([1, 5, 9, 3, 14, 7, 2], 3), ([1, 8, 8, 20, 2], 2), ([1, 5, 9, 11, 2], 3), ([1, 8, 8, 4, 17, 2], 3)]


def names(model):
    have = dict(model.named_parameters())
    order = ["model.embed_tokens.weight"]
    for i in range(SHAPE["num_hidden_layers"]):
        order += [f"model.layers.{i}.{n}" for n in LAYER]
    order += ["model.norm.weight", "lm_head.weight", "score.weight"]
    return [n for n in order if n in have]


def fill(model, shift):
    have = dict(model.named_parameters())
    with torch.no_grad():
        for p, name in enumerate(names(model)):
            t = have[name]
            x = torch.tensor([math.sin(1 + 0.37 * e + 2.1 * p + shift) for e in range(t.numel())], dtype=torch.float64)
            x = 1 + 0.2 * x if "norm" in name else 0.3 * x
            t.copy_(x.float().double().reshape(t.shape))


def make(cls, config, shift=0.0):
    torch.set_default_dtype(torch.float64)
    model = cls(config).double()
    fill(model, shift)
    # The norms of transformers compute in float32 otherwise.
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = (lambda m: lambda x: m.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + m.variance_epsilon)))(module)
    d = config.hidden_size // config.num_attention_heads
    inv = 1.0 / (10000.0 ** (torch.arange(0, d, 2).double() / d))

    def rope(x, position_ids, *_, **__):
        a = position_ids[..., None].double() * inv
        a = torch.cat([a, a], -1)
        return a.cos(), a.sin()
    model.model.rotary_emb.forward = rope
    model.config._attn_implementation = "eager"
    return model


def softmax64():
    """eager attention asks for a float32 softmax; keep float64."""
    original = F.softmax
    F.softmax = lambda x, dim=-1, dtype=None, **k: original(x, dim=dim)
    torch.nn.functional.softmax = F.softmax


def logprob(model, ids, start):
    logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    lp = logits.log_softmax(-1)
    return sum(lp[t - 1, ids[t]] for t in range(start, len(ids)))


def summary(tensors):
    """A few elements and two sums of each."""
    out = {}
    for name, t in tensors.items():
        x = t.detach().double().flatten()
        w = torch.cos(torch.arange(x.numel()).double())
        out[name] = [float(x.norm()), float(x @ w)] + [float(v) for v in x[:3]]
    return out


def grads(model):
    have = dict(model.named_parameters())
    return summary({n: have[n].grad for n in names(model)})


def sft(model):
    total = sum(len(s) - start for s, start in SEQUENCES)
    return -sum(logprob(model, s, start) for s, start in SEQUENCES) / total


def dpo(model, reference, beta=0.3):
    loss = 0
    for w, l in ((0, 1), (2, 3)):
        with torch.no_grad():
            rw, rl = logprob(reference, *SEQUENCES[w]), logprob(reference, *SEQUENCES[l])
        h = (logprob(model, *SEQUENCES[w]) - rw) - (logprob(model, *SEQUENCES[l]) - rl)
        loss = loss - F.logsigmoid(beta * h)
    return loss / 2


def main():
    softmax64()
    out = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "cases": {}}
    llama = LlamaConfig(**SHAPE, tie_word_embeddings=True)
    qwen = Qwen2Config(**SHAPE, tie_word_embeddings=False)

    def case(name, model, loss):
        loss.backward()
        out["cases"][name] = {"loss": float(loss.detach()), "gradients": grads(model)}

    m = make(LlamaForCausalLM, llama)
    case("sft", m, sft(m))
    m = make(Qwen2ForCausalLM, qwen)
    case("sft biased", m, sft(m))
    m = make(LlamaForCausalLM, llama)
    case("dpo", m, dpo(m, make(LlamaForCausalLM, llama, shift=0.05)))

    m = make(LlamaForSequenceClassification, LlamaConfig(**SHAPE, num_labels=1, pad_token_id=0, tie_word_embeddings=True))
    scores = [m(input_ids=torch.tensor([s])).logits[0, 0] for s, _ in SEQUENCES]
    case("reward", m, -(F.logsigmoid(scores[0] - scores[1]) + F.logsigmoid(scores[2] - scores[3])) / 2)
    out["cases"]["reward"]["scores"] = [float(s.detach()) for s in scores]

    m = make(LlamaForCausalLM, llama)
    have = dict(m.named_parameters())
    matrices = [t for n, t in have.items() if "norm" not in n]
    norms = [t for n, t in have.items() if "norm" in n]
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}], lr=0.01)
    losses = []
    for step in range(4):
        opt.zero_grad()
        loss = sft(m)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        opt.step()
        losses.append(float(loss.detach()))
    out["cases"]["steps"] = {"losses": losses, "weights": summary({n: have[n] for n in names(m)})}
    json.dump(out, sys.stdout, indent=1)
    print()


main()
