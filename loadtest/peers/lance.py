#!/usr/bin/env python3
"""Measures LanceDB beside `loadtest/search` and `loadtest/cold`: the same rows, queries and filters.

    lance.py DIR --build                        table and index into DIR/lance (or --uri)
    lance.py DIR                                hot: the cheapest setting that finds 0.95, and its q/s
    lance.py DIR --share 0.5 0.1 0.02 0.01 0.001
    lance.py DIR --uri s3://bucket/lance --endpoint URL --cold 20
                                                each query in a process of its own, through a slow store

LanceDB is a library: it runs in this process, without HTTP. One line of JSON for
every measurement. Row i has bucket_of(i), as ../search/store.go has it.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa

import data

K = 10
MASK = (1 << 64) - 1


def bucket_of(rows):
    """SplitMix64 of the row number, modulo 1000."""
    x = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) % np.uint64(1000)).astype(np.int32)


def connect(args):
    import lancedb

    options = None
    if args.uri.startswith("s3://"):
        options = {"endpoint": args.endpoint, "allow_http": "true", "region": "us-east-1",
                   "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
                   "aws_virtual_hosted_style_request": "false"}
    return lancedb.connect(args.uri, storage_options=options)


def build(args, meta):
    import lancedb.index

    base = data.read_vecs(args.dir / "base.fvecs")
    dim = meta["dim"]
    schema = pa.schema([("row", pa.int64()), ("bucket", pa.int32()), ("vector", pa.list_(pa.float32(), dim))])

    def batches():
        for start in range(0, len(base), data.BLOCK):
            block = np.ascontiguousarray(base[start : start + data.BLOCK])
            rows = np.arange(start, start + len(block))
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), dim)
            yield pa.record_batch([pa.array(rows), pa.array(bucket_of(rows)), vectors], schema)

    began = time.process_time()
    table = connect(args).create_table("rows", data=pa.RecordBatchReader.from_batches(schema, batches()), mode="overwrite")
    shape = dict(distance_type=meta["metric"], num_partitions=args.partitions)
    if args.index == "IvfPq":
        shape["num_sub_vectors"] = args.sub or dim // 4
    table.create_index("vector", config=getattr(lancedb.index, args.index)(**shape))
    table.create_index("bucket", config=lancedb.index.BTree())
    print(json.dumps(dict(system="lancedb", dataset=meta["name"], index=args.index, build_cpu_s=round(time.process_time() - began, 1))))


def search(table, query, nprobes, refine, where):
    q = table.search(query).nprobes(nprobes).limit(K).select(["row", "_distance"])
    if refine:
        q = q.refine_factor(refine)
    if where:
        q = q.where(where, prefilter=True)
    return q.to_arrow()["row"].to_numpy()


def truths(args, meta, queries, share):
    """The exact K nearest of the rows that pass."""
    if share == 1:
        return np.array(data.read_vecs(args.dir / "groundtruth.ivecs", np.int32)[: len(queries), :K])
    import faiss

    base = data.read_vecs(args.dir / "base.fvecs")
    passing = np.flatnonzero(bucket_of(np.arange(len(base))) < max(1, int(share * 1000 + 0.5)))
    rows = np.ascontiguousarray(base[passing])
    cosine = meta["metric"] == "cosine"
    _, found = faiss.knn(data.unit(queries) if cosine else queries, data.unit(rows) if cosine else rows, min(K, len(rows)),
                         metric=faiss.METRIC_INNER_PRODUCT if cosine else faiss.METRIC_L2)
    return passing[found]


def cpu():
    t = os.times()
    return t.user + t.system


def measure(table, queries, setting, where, seconds, threads):
    done, began, cpu_began = [0] * threads, time.perf_counter(), cpu()

    def work(n):
        i = n
        while time.perf_counter() - began < seconds:
            search(table, queries[i % len(queries)], *setting, where)
            done[n] += 1
            i += threads

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    took = time.perf_counter() - began
    return sum(done) / took, (cpu() - cpu_began) * 1e6 / sum(done)


def hot(args, meta, queries):
    table = connect(args).open_table("rows")
    for share in args.share:
        where = None if share == 1 else f"bucket < {max(1, int(share * 1000 + 0.5))}"
        truth = truths(args, meta, queries, share)
        best = None
        for nprobes, refine in [(n, r) for n in args.nprobes for r in args.refine]:
            began = time.perf_counter()
            answers = [search(table, q, nprobes, refine, where) for q in queries]
            took = time.perf_counter() - began
            recall = np.mean([len(set(a) & set(t)) / len(t) for a, t in zip(answers, truth)])
            point = dict(recall=round(float(recall), 4), nprobes=nprobes, refine=refine, short=sum(len(a) < len(t) for a, t in zip(answers, truth)), took=took)
            print(json.dumps(dict(tried=point)), file=sys.stderr)
            if recall >= args.recall and (best is None or took < best["took"]):
                best = point
            if best is None or recall > best["recall"] and best["recall"] < args.recall:
                best = point
        for threads in (1, 2):
            runs = [measure(table, queries, (best["nprobes"], best["refine"]), where, args.seconds, threads) for _ in range(args.rounds)]
            print(json.dumps(dict(system="lancedb", dataset=meta["name"], share=share, threads=threads, recall=best["recall"], nprobes=best["nprobes"],
                                  refine=best["refine"], short=best["short"], qps=round(statistics.median(q for q, _ in runs)),
                                  cpu_us=round(statistics.median(c for _, c in runs)))), flush=True)


def one(args, queries):
    """A process that has nothing answers one query, and then others."""
    began = time.perf_counter()
    table = connect(args).open_table("rows")
    times = []
    for query in queries[: args.one]:
        search(table, query, args.nprobes[0], args.refine[0], None)
        times.append((time.perf_counter() - began) * 1e3)
        began = time.perf_counter()
    print(json.dumps(times))


def cold(args, meta):
    firsts, others = [], []
    for start in range(args.cold):
        command = [sys.executable, __file__, str(args.dir), "--uri", args.uri, "--endpoint", args.endpoint, "--one", "6", "--skip", str(6 * start),
                   "--nprobes", str(args.nprobes[0]), "--refine", str(args.refine[0])]
        times = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        firsts.append(times[0])
        others += times[1:]
    print(json.dumps(dict(system="lancedb", dataset=meta["name"], cold_first_p50_ms=round(statistics.median(firsts), 1), cold_new_p50_ms=round(statistics.median(others), 1),
                          starts=args.cold, nprobes=args.nprobes[0], refine=args.refine[0])))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir", type=pathlib.Path)
    p.add_argument("--uri", help="default DIR/lance")
    p.add_argument("--endpoint", help="of the S3 server")
    p.add_argument("--build", action="store_true")
    p.add_argument("--index", default="IvfPq", choices=["IvfPq", "HnswSq", "HnswPq", "IvfFlat"])
    p.add_argument("--partitions", type=int, default=1024)
    p.add_argument("--sub", type=int)
    p.add_argument("--share", type=float, nargs="+", default=[1.0])
    p.add_argument("--nprobes", type=int, nargs="+", default=[8, 16, 32, 64])
    p.add_argument("--refine", type=int, nargs="+", default=[2, 5, 10])
    p.add_argument("--recall", type=float, default=0.95)
    p.add_argument("--queries", type=int, default=300)
    p.add_argument("--seconds", type=float, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--cold", type=int, help="so many processes")
    p.add_argument("--one", type=int, help=argparse.SUPPRESS)
    p.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    args = p.parse_args()
    args.uri = args.uri or str(args.dir / "lance")
    meta = json.loads((args.dir / "meta.json").read_text())
    queries = np.ascontiguousarray(data.read_vecs(args.dir / "query.fvecs")[args.skip :][: args.queries])
    if args.build:
        build(args, meta)
    elif args.one:
        one(args, queries)
    elif args.cold:
        cold(args, meta)
    else:
        hot(args, meta, queries)


if __name__ == "__main__":
    main()
