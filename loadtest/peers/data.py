#!/usr/bin/env python3
"""Makes the data sets of the index benchmark.

    data.py clu1m_128          1M x 128, l2: as hard for IVF as SIFT1M
    data.py clu1m_768          1M x 768, unit norm, l2
    data.py clu100k_512        100k x 512, and clu100k_1536: unit norm, l2; clu100k_128: a tenth of clu1m_128
    data.py clu10m_128         10M x 128 (5 GB): the first million are clu1m_128's
    data.py glosses            117k x 384, sentence embeddings of WordNet's glosses, cosine
    data.py sift10k --from DIR a folder that has the three files already

Each becomes a folder under --out with base.fvecs, query.fvecs,
groundtruth.ivecs (the exact 100 nearest of every query, best first) and
meta.json. A name and a seed are one data set: the blocks have seeds of their
own, so memory stays flat and a larger set begins with the smaller one.
"""

import argparse
import json
import pathlib
import shutil

import numpy as np

BLOCK = 100_000  # rows; part of the format of a seed
NEIGHBOURS = 100

# rows, queries, dim, then the shape: see Clusters.
CLUSTERED = {
    "clu1m_128": (1_000_000, 10_000, 128, dict(spread=1.5, centre_decay=0.7, noise_decay=0.8, unit=False)),
    "clu1m_768": (1_000_000, 2_000, 768, dict(spread=1.5, centre_decay=0.7, noise_decay=0.8, unit=True)),
    "clu100k_128": (100_000, 1_000, 128, dict(spread=1.5, centre_decay=0.7, noise_decay=0.8, unit=False)),
    "clu100k_512": (100_000, 1_000, 512, dict(spread=1.5, centre_decay=0.7, noise_decay=0.8, unit=True)),
    "clu100k_1536": (100_000, 1_000, 1536, dict(spread=1.5, centre_decay=0.7, noise_decay=0.8, unit=True)),
    "clu10m_128": (10_000_000, 10_000, 128, dict(spread=1.5, centre_decay=0.7, noise_decay=0.8, unit=False)),
}


class Clusters:
    """5 000 Gaussian clusters of unequal weight and width. The centres and the
    noise around them have spectra that fall as i^-decay; the noise of a cluster
    lies along one of 16 rotations. spread is the width of the median cluster
    against the norm of a centre. (The generator of INDEX 4.1, by blocks.)"""

    COUNT, ROTATIONS = 5000, 16

    def __init__(self, dim, spread, centre_decay, noise_decay, unit, seed):
        rng = np.random.default_rng(seed)
        self.dim, self.unit, self.seed = dim, unit, seed

        def spectrum(decay):
            s = np.arange(1, dim + 1) ** -decay
            return (s / np.linalg.norm(s)).astype(np.float32)

        def rotation():
            return np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)

        whole = rotation()
        # The spectrum is folded into the rotations: noise is one product.
        self.rotations = [spectrum(noise_decay)[:, None] * rotation() for _ in range(self.ROTATIONS)]
        self.centres = (rng.standard_normal((self.COUNT, dim), np.float32) * spectrum(centre_decay)) @ whole
        self.widths = np.exp(rng.normal(0, 0.35, self.COUNT)).astype(np.float32) * np.float32(spread)
        weights = np.exp(rng.normal(0, 1, self.COUNT))
        self.weights = weights / weights.sum()
        self.rotation_of = rng.integers(0, self.ROTATIONS, self.COUNT)

    def draw(self, n, stream):
        """n rows; stream names the block, so that every block is independent."""
        rng = np.random.default_rng((self.seed, stream))
        label = rng.choice(self.COUNT, n, p=self.weights)
        out = self.centres[label]
        for r, rotation in enumerate(self.rotations):
            rows = np.flatnonzero(self.rotation_of[label] == r)
            noise = rng.standard_normal((len(rows), self.dim), np.float32) @ rotation
            out[rows] += noise * self.widths[label[rows], None]
        return unit(out) if self.unit else out


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(1e-30))


def write_vecs(file, rows):
    """Appends rows in the .fvecs / .ivecs layout: the width, then the values, 32 bits each."""
    out = np.empty((len(rows), rows.shape[1] + 1), np.int32)
    out[:, 0] = rows.shape[1]
    out[:, 1:] = rows.view(np.int32)
    out.tofile(file)


def read_vecs(path, dtype=np.float32):
    """A view (n x width) of a file of write_vecs; nothing is read before it is used."""
    raw = np.memmap(path, np.int32, "r")
    return raw.reshape(-1, raw[0] + 1)[:, 1:].view(dtype)


def truth(base_path, queries, metric):
    """The exact NEIGHBOURS nearest rows of every query: a flat scan by blocks.
    Sums are float32, so rows that differ in the seventh digit may swap."""
    import faiss

    base = read_vecs(base_path)
    search = faiss.knn
    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    queries = np.ascontiguousarray(unit(queries) if metric == "cosine" else queries)
    best, ids = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int32)
    for start in range(0, len(base), BLOCK):
        block = np.ascontiguousarray(base[start : start + BLOCK])
        d, i = search(queries, unit(block) if metric == "cosine" else block, NEIGHBOURS, metric=kind)
        best = np.concatenate([best, -d if metric == "cosine" else d], 1)
        ids = np.concatenate([ids, (i + start).astype(np.int32)], 1)
        keep = np.argsort(best, 1, kind="stable")[:, :NEIGHBOURS]
        best, ids = np.take_along_axis(best, keep, 1), np.take_along_axis(ids, keep, 1)
    return ids


def finish(folder, name, metric, made_by):
    """Writes the ground truth and meta.json: the folder is a data set then."""
    queries = np.array(read_vecs(folder / "query.fvecs"))
    write_vecs(folder / "groundtruth.ivecs", truth(folder / "base.fvecs", queries, metric))
    base = read_vecs(folder / "base.fvecs")
    meta = dict(name=name, rows=len(base), dim=base.shape[1], queries=len(queries), metric=metric, made_by=made_by)
    (folder / "meta.json").write_text(json.dumps(meta) + "\n")
    print(json.dumps(meta), flush=True)


def clustered(folder, name, seed):
    rows, queries, dim, shape = CLUSTERED[name]
    clusters = Clusters(dim, seed=seed, **shape)
    with open(folder / "query.fvecs", "wb") as f:
        write_vecs(f, clusters.draw(queries, 0))
    with open(folder / "base.fvecs", "wb") as f:
        for block in range(rows // BLOCK):
            write_vecs(f, clusters.draw(BLOCK, 1 + block))
    finish(folder, name, "l2", dict(seed=seed, **shape))


def gloss_vectors(folder, seed):
    import glosses

    cache = folder / "all.npy"
    if not cache.exists():
        np.save(cache, glosses.embed(glosses.texts()))
    vectors = np.load(cache)
    order = np.random.default_rng(seed).permutation(len(vectors))
    with open(folder / "query.fvecs", "wb") as f:
        write_vecs(f, vectors[order[:1000]])
    with open(folder / "base.fvecs", "wb") as f:
        write_vecs(f, vectors[np.sort(order[1000:])])  # WordNet's order: neighbours in meaning lie together
    finish(folder, "glosses", "cosine", dict(seed=seed, model="all-MiniLM-L6-v2"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("name", choices=[*CLUSTERED, "glosses", "sift10k"])
    p.add_argument("--out", type=pathlib.Path, default="/tmp/bench")
    p.add_argument("--seed", type=int, default=20260919)
    p.add_argument("--from", dest="source", type=pathlib.Path, help="for sift10k")
    args = p.parse_args()
    folder = args.out / args.name
    folder.mkdir(parents=True, exist_ok=True)
    if args.name in CLUSTERED:
        clustered(folder, args.name, args.seed)
    elif args.name == "glosses":
        gloss_vectors(folder, args.seed)
    else:
        if not args.source:
            p.error("sift10k wants --from DIR")
        for file in ("base.fvecs", "query.fvecs"):
            shutil.copyfile(args.source / file, folder / file)
        finish(folder, args.name, "l2", dict(source="sift10k"))


if __name__ == "__main__":
    main()
