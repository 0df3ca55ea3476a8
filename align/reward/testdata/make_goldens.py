"""Writes goldens.json and tokenizer.json: what transformers computes with tiny
random DeBERTa models, and a PyTorch module of PairRM's head over them.

    python3 make_goldens.py [REWARD_DIR]

needs torch, transformers and tokenizers; the committed files were made with
torch 2.8.0, transformers 5.23.0 and tokenizers 0.23.3 on the CPU. Weights are
not stored: element i of a tensor is a hash of its name and i, which
golden_test.go computes too. With REWARD_DIR, a LlamaForSequenceClassification
directory, it writes prototype.json too.
"""

import json
import sys

import numpy as np
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, DebertaV2Config, DebertaV2ForSequenceClassification, DebertaV2Model
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

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


def weight(name, shape):
    u = uniform(name, int(np.prod(shape)))
    if "LayerNorm.weight" in name:
        x = 1 + u / 2
    elif name.endswith("bias"):
        x = u / 2
    elif "embeddings" in name:
        x = 2 * u
    else:
        x = u * (4 / np.sqrt(np.prod(shape[1:])))
    return torch.tensor(x.astype(np.float32).reshape(shape))


def fill(model, half=False):
    model.eval()
    tensors = []
    with torch.no_grad():
        for name, p in model.named_parameters():
            w = weight(name, tuple(p.shape))
            p.copy_(w.half().float() if half else w)
            tensors.append([name, list(p.shape)])
    return tensors


BASE = dict(
    vocab_size=100, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, layer_norm_eps=1e-7, type_vocab_size=0, num_labels=1, pad_token_id=0,
)
V3 = dict(relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], share_att_key=True,
          norm_rel_ebd="layer_norm", position_biased_input=False)

CASES = [
    ("v3", V3),
    ("v3 long", dict(V3, position_buckets=256, max_position_embeddings=512, hidden_size=16, num_attention_heads=2, num_hidden_layers=1)),
    ("v3 text types", dict(V3, pos_att_type="p2c|c2p")),
    ("v3 half", dict(V3)),
    ("absolute too", dict(V3, position_biased_input=True, type_vocab_size=2)),
    ("own projections", dict(V3, share_att_key=False)),
    ("own c2p", dict(V3, share_att_key=False, pos_att_type=["c2p"])),
    ("own p2c", dict(V3, share_att_key=False, pos_att_type=["p2c"])),
    ("shared c2p", dict(V3, pos_att_type=["c2p"])),
    ("shared p2c", dict(V3, pos_att_type=["p2c"])),
    ("no types", dict(V3, pos_att_type=[])),
    ("no buckets", dict(V3, position_buckets=-1, max_relative_positions=12)),
    ("no norm", dict(V3, norm_rel_ebd="none")),
    ("not relative", dict(relative_attention=False, position_biased_input=True)),
    ("defaults", dict()),
    ("convolution", dict(V3, conv_kernel_size=3, conv_act="gelu")),
    ("convolution tanh", dict(V3, conv_kernel_size=5)),
    ("embedding size", dict(V3, embedding_size=20, hidden_act="gelu_new", pooler_hidden_act="tanh", num_labels=3)),
]


def ids(name, n):
    return [4 + int(v) for v in (uniform(name, n) + 0.5) * 96]


def encoder_case(name, kw):
    raw = dict(BASE, **kw)
    config = DebertaV2Config(**raw)
    model = DebertaV2ForSequenceClassification(config)
    tensors = fill(model, half=name == "v3 half")
    lengths = [600, 3] if name == "v3 long" else [5, 1, 40, 17]
    seqs = [ids(f"{name} {i}", n) for i, n in enumerate(lengths)]
    longest = max(lengths)
    batch = torch.tensor([s + [0] * (longest - len(s)) for s in seqs])
    mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in seqs])
    types = torch.tensor([[int(i >= len(s) // 2 and i < len(s)) for i in range(longest)] for s in seqs])
    with torch.no_grad():
        out = model(input_ids=batch, attention_mask=mask, token_type_ids=types, output_hidden_states=True)
    hidden = out.hidden_states[-1]
    raw["architectures"] = ["DebertaV2ForSequenceClassification"]
    if kw.get("num_labels", 1) == 1:
        raw["id2label"] = {"0": "LABEL_0"}
    else:
        raw["id2label"] = {str(i): f"LABEL_{i}" for i in range(kw["num_labels"])}
    raw["model_type"] = "deberta-v2"
    return dict(
        name=name, config=raw, tensors=tensors, sequences=seqs,
        logits=[[round(float(v), 7) for v in row] for row in out.logits],
        # the first 8 elements of the hidden state of the last token
        last=[[round(float(v), 7) for v in hidden[i, len(s) - 1, :8]] for i, s in enumerate(seqs)],
    )


WORDS = "the a of to and in is you it that he was for on are as with his they I at be this have from or one had by what hello friend story good bad Tell me about cat dog ! ? . , love hate too".split()
MARKS = ["<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>"]


def small_tokenizer():
    """A Unigram tokenizer put together as DeBERTa's is, without its table of characters."""
    pieces = [("[PAD]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[UNK]", 0.0), ("▁", -3.0)]
    seen = set(p for p, _ in pieces)
    for w in WORDS:
        for p in ("▁" + w, w):
            if p not in seen:
                seen.add(p)
                pieces.append((p, round(-4 - 0.01 * len(pieces), 2)))
    for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789[]<>|:*'\"-\n":
        if c not in seen:
            seen.add(c)
            pieces.append((c, round(-8 - 0.01 * len(pieces), 2)))
    tok = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tok.normalizer = normalizers.Sequence([normalizers.Strip(left=True, right=True), normalizers.Replace(Regex(" {2,}"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tok.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")])
    tok.add_tokens([AddedToken(m, normalized=True) for m in MARKS])
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return tok


class Pair(torch.nn.Module):
    def __init__(self, config, tasks):
        super().__init__()
        h = config.hidden_size
        self.pretrained_model = DebertaV2Model(config)
        drop = torch.nn.Dropout
        self.head_layer = torch.nn.Sequential(drop(), torch.nn.Linear(2 * h, h), torch.nn.Tanh(), drop(), torch.nn.Linear(h, tasks))

    def forward(self, seq, marks):
        hidden = self.pretrained_model(torch.tensor([seq])).last_hidden_state[0]
        s, a, b = (hidden[seq.index(m)] for m in marks)
        return (self.head_layer(torch.cat([s, a])) - self.head_layer(torch.cat([s, b]))).mean()


def pair_case(name, config, tok, tasks, source_max, candidate_max, pairs, blender):
    model = Pair(DebertaV2Config(**config), tasks)
    tensors = fill(model)
    marks = [tok.token_to_id(m) for m in MARKS[:3]]

    def encode(text, limit):
        tok.enable_truncation(max_length=limit)
        return tok.encode(text).ids

    def compare(x, a, b):
        x, a, b = (t.replace("[SEP]", " ") for t in (x, a, b))
        seq = encode(MARKS[0] + x, source_max)
        limit = (source_max + 2 * candidate_max - len(seq)) // 2
        seq = seq + encode(MARKS[1] + a, limit) + encode(MARKS[2] + b, limit)
        with torch.no_grad():
            return seq, float(model(seq, marks))

    rows = []
    for x, a, b in pairs:
        seq, ab = compare(x, a, b)
        _, ba = compare(x, b, a)
        rows.append(dict(prompt=x, a=a, b=b, ids=seq, ab=round(ab, 7), ba=round(ba, 7)))
    tok.no_truncation()
    if blender:
        file = dict(ranker_type="pairranker", model_type="deberta", model_name="microsoft/deberta-v3-large")
    else:
        file = dict(config, architectures=["DebertaV2PairRM"], model_type="deberta-v2", source_prefix_id=marks[0],
                    cand1_prefix_id=marks[1], cand2_prefix_id=marks[2])
    file |= dict(n_tasks=tasks, source_maxlength=source_max, candidate_maxlength=candidate_max)
    return dict(name=name, config=file, tensors=tensors, pairs=rows)


PAIRS = [
    ("hello!", "hi!", "f**k off!"),
    ("I love you!", "I hate you!", "I love you, too!"),
    ("Tell me a story about a cat.", "Once  upon a time\nthere was a cat. " * 6, "No."),
    ("Is [SEP] that   good?", "  It is [SEP] good  ", "谛 is bad ₣"),
    ("", "", "a"),
    ("the cat and the dog " * 12, "good friend " * 20, "bad friend " * 30),
]


def main():
    torch.manual_seed(0)
    out = dict(
        generator="make_goldens.py", torch=torch.__version__, transformers=transformers.__version__,
        cases=[encoder_case(n, kw) for n, kw in CASES],
    )
    tok = small_tokenizer()
    tok.save("tokenizer.json", pretty=False)
    size = tok.get_vocab_size()
    small = dict(V3, vocab_size=size + 3, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                 max_position_embeddings=64, layer_norm_eps=1e-7, type_vocab_size=0)
    large = dict(V3, vocab_size=size, hidden_size=64, intermediate_size=72, num_hidden_layers=1, num_attention_heads=1,
                 max_position_embeddings=512, layer_norm_eps=1e-7, type_vocab_size=0, position_buckets=16)
    out["pairs"] = [
        pair_case("hf", small, tok, 1, 24, 12, PAIRS, False),
        pair_case("hf tasks", small, tok, 3, 1224, 412, PAIRS[:3], False),
        pair_case("blender", large, tok, 1, 40, 20, PAIRS, True),
    ]
    out["buckets"] = []
    for buckets, longest in ((256, 512), (8, 64), (32, 512), (48, 400)):
        p = torch.arange(0, 2100)
        out["buckets"].append(dict(buckets=buckets, longest=longest,
                                   rows=[int(v) for v in make_log_bucket_position(p, buckets, longest).to(torch.long)]))
    out["truncation"] = []
    for a in (0, 1, 4, 9, 30):
        for b in (0, 2, 5, 9, 31):
            for limit in (3, 4, 8, 13, 20):
                tok.enable_truncation(max_length=limit, strategy="longest_first")
                e = tok.encode("a " * a, "a " * b)
                n = e.ids[1:].index(2)
                out["truncation"].append([a, b, limit, n, len(e.ids) - n - 3])
    tok.no_truncation()
    out["pieces"] = [dict(text=t, ids=tok.encode(t).ids) for t in ("hello friend", "谛 cat ₣₣ zoo", "", "a\tb")]
    with open("goldens.json", "w") as f:
        json.dump(out, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
    if len(sys.argv) > 1:
        prototype(sys.argv[1])


STORIES = [
    ("Tell me a story about a cat.\n", "Once upon a time there was a cat. The cat was happy and played all day.", True),
    ("Tell me a story about a cat.\n", "Once upon a time there was a dog. The dog was sad and cried.", True),
    ("Tell me a story about a boat.\n", "The boat was big. Tim and Sue loved the boat. They were happy, and smiled.", False),
    ("Tell me a story about a boat.\n", "bad bad bad bad bad bad bad", True),
    ("", "One day, a little girl named Lily found a box.", False),
]


def prototype(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tok = Tokenizer.from_file(folder + "/tokenizer.json")
    rows = []
    for prompt, response, ended in STORIES:
        seq = tok.encode(prompt + response).ids + ([2] if ended else [])
        with torch.no_grad():
            rows.append(dict(prompt=prompt, response=response, ended=ended, ids=seq, score=round(float(model(torch.tensor([seq])).logits[0, 0]), 6)))
    with open("prototype.json", "w") as f:
        json.dump(dict(generator="make_goldens.py", transformers=transformers.__version__, rows=rows), f, separators=(",", ":"))
        f.write("\n")


main()
