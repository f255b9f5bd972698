#!/usr/bin/env python3
"""Measures FAISS and hnswlib on a data set, alone or in turn with AkiDB's index.

    peers.py /tmp/bench/clu1m_128 --mode single
    peers.py /tmp/bench/clu1m_128 --mode batch --ours '/tmp/bench/index'

Prints JSON lines, and appends them to --out. README.md says what a line means,
how a command for --ours has to behave, and how the two are compared.
"""

import argparse
import json
import math
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import threading
import time

import systems  # before numpy: it looks after OpenBLAS
import faiss
import numpy as np

BATCH = 4000
K = systems.K
TARGETS = (0.95, 0.99)
THREADS = {"single": 1, "batch": 1, "threads2": 2}


def recall(found, truth, n):
    """The share of the n nearest rows that are among the first n found."""
    return float(np.mean([len(np.intersect1d(f[:n], t[:n])) / n for f, t in zip(found, truth, strict=True)]))


def measure(peer, mode, seconds, batch, start=0):
    """One repetition, as (queries a second, queries a CPU second): as many queries as fill the time, in their order from start
    on, wrapping around. On a machine that others use too the second is the steadier; the first is what a user sees."""
    queries = peer.data.queries
    faiss.omp_set_num_threads(1)
    counts = [0] * THREADS[mode]
    if mode == "batch":
        many = queries[np.arange(batch) % len(queries)]
    else:
        runs = [peer.one_by_one(queries) for _ in counts]

    def work(me):
        faiss.omp_set_num_threads(1)  # OpenMP keeps this setting for every thread apart
        at = start + me * len(queries) // 2
        while time.perf_counter() < stop or counts[me] == 0:
            if mode == "batch":
                peer.search(many, K)
                counts[me] += batch
            else:
                runs[me]([(at + i) % len(queries) for i in range(20)])
                at += 20
                counts[me] += 20

    threads = [threading.Thread(target=work, args=(me,)) for me in range(1, len(counts))]
    began, cpu = time.perf_counter(), time.process_time()
    stop = began + seconds
    for t in threads:
        t.start()
    work(0)
    for t in threads:
        t.join()
    return sum(counts) / (time.perf_counter() - began), sum(counts) / (time.process_time() - cpu)


class Point:
    """One setting of one system, and the repetitions of its measurement."""

    def __init__(self, peer, setting, mode, batch):
        self.peer, self.setting, self.mode, self.batch = peer, setting, mode, batch
        self.qps, self.qps_cpu = [], []

    def survey(self, seconds, queries):
        """Recall of the first queries and a short timing, to choose the points that are worth more."""
        self.peer.set(self.setting)
        faiss.omp_set_num_threads(2)
        self.recall10 = recall(self.peer.search(self.peer.data.queries[:queries], K), self.peer.data.truth[:queries], K)
        self.quick = measure(self.peer, self.mode, seconds, self.batch)[1]

    def recalls(self):
        """Recall of all queries, none of it timed. recall@100 is of k=100 under the same setting, for the first 1 000 queries."""
        self.peer.set(self.setting)
        faiss.omp_set_num_threads(2)
        queries, truth = self.peer.data.queries, self.peer.data.truth
        found = self.peer.search(queries, K)
        self.recall1, self.recall10 = recall(found, truth, 1), recall(found, truth, K)
        self.recall100 = recall(self.peer.search(queries[:1000], 100), truth[:1000], 100)

    def repeat(self, seconds):
        self.peer.set(self.setting)
        qps, qps_cpu = measure(self.peer, self.mode, seconds, self.batch, 1000 * len(self.qps))
        self.qps.append(qps)
        self.qps_cpu.append(qps_cpu)

    def line(self):
        return {
            "system": self.peer.system,
            "setting": " ".join(f"{k}={v}" for k, v in self.setting.items()),
            "dataset": self.peer.data.name,
            "mode": self.mode,
            "recall@1": round(self.recall1, 4),
            "recall@10": round(self.recall10, 4),
            "recall@100": round(self.recall100, 4),
            "qps": round(statistics.median(self.qps), 1),
            "qps_cpu": round(statistics.median(self.qps_cpu), 1),
            "rounds": [round(q, 1) for q in self.qps],
            "rounds_cpu": [round(q, 1) for q in self.qps_cpu],
            "build_cpu_s": round(self.peer.build_cpu_s, 1),
            "bytes_per_vector": round(self.peer.size / self.peer.data.rows, 1),
        }


def pareto(points, slack=0.0):
    """The points no other is better than, by recall: points are (recall, qps, anything).
    With slack, also those that noise of that share could have hidden."""
    front, best = [], 0.0
    for p in sorted(points, key=lambda p: (-p[0], -p[1])):
        if p[1] > best * (1 - slack):
            front.append(p)
            best = max(best, p[1])
    return front[::-1]


def at_recall(points, target):
    """q/s at a recall: between the two points of the front around it, the
    logarithm of q/s is linear in recall. Never beyond the measured points: below
    the lowest, the fastest point; above the highest, None."""
    front = pareto(points)
    for i, (r, qps, *_) in enumerate(front):
        if r >= target:
            if i == 0 or r == target:
                return qps
            r0, qps0 = front[i - 1][:2]
            w = (target - r0) / (r - r0)
            return math.exp((1 - w) * math.log(qps0) + w * math.log(qps))
    return None


def survey(peer, mode, seconds, batch):
    """The points of a system that are worth measuring: a quick pass over its grid, then its front."""
    found, seen = [], {}
    for setting in peer.grid():
        # More re-ranking stops paying once recall has stopped growing, and so does more of everything past 0.9985.
        family = tuple(v for k, v in setting.items() if k != "k_factor")
        if len(seen.get(family, [])) > 1 and seen[family][-1] - seen[family][-2] < 0.0004:
            continue
        p = Point(peer, setting, mode, batch)
        p.survey(seconds, 1000)
        seen.setdefault(family, []).append(p.recall10)
        if p.recall10 > 0.8:
            found.append((p.recall10, p.quick, p))
    # Of points as good as each other in recall (the share missed within 26 %) the fastest will do.
    fastest = {}
    for r, qps, p in pareto(found, slack=0.03):
        level = round(-10 * math.log10(max(1 - r, 1e-4)))
        if level not in fastest or qps > fastest[level][0]:
            fastest[level] = (qps, p)
    front = [p for _, p in fastest.values()]
    over = [i for i, p in enumerate(front) if p.recall10 >= 0.9985]
    return front[: over[0] + 1] if over else front


class Ours:
    """AkiDB's program, in turn with the peers: it makes one repetition for every line on its stdin."""

    def __init__(self, command, folder, mode, rounds):
        args = [*shlex.split(command), "--data", str(folder), "--repeat", str(rounds), "--mode", mode, "--json", "--wait"]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.points = {}
        self.read()  # the first {"done": ...}: the index is ready

    def read(self):
        for text in self.process.stdout:
            line = json.loads(text)
            if "done" in line:
                return
            point = self.points.setdefault((line["system"], line["setting"]), {**line, "rounds": [], "rounds_cpu": []})
            point["rounds"].append(line["qps"])
            point["rounds_cpu"].append(line["qps_cpu"])
        raise SystemExit(f"--ours ended early with status {self.process.wait()}")

    def round(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.read()

    def lines(self):
        self.process.stdin.close()
        self.process.wait()
        median = statistics.median
        return [{**p, "qps": median(p["rounds"]), "qps_cpu": median(p["rounds_cpu"])} for p in self.points.values()]


def ratios(ours, theirs, dataset, mode):
    """Ours against each peer at each target, round by round: the two of a round ran within a minute or two."""

    def by_round(lines, rounds, target):
        return [
            at_recall([(x["recall@10"], q) for x, q in zip(lines, row, strict=True)], target)
            for row in zip(*(x[rounds] for x in lines), strict=True)
        ]

    for target in TARGETS:
        for system in dict.fromkeys(line["system"] for line in theirs):
            line = {"against": system, "dataset": dataset.name, "mode": mode, "target": target}
            for suffix in ("", "_cpu"):
                a = by_round(ours, "rounds" + suffix, target)
                b = by_round([x for x in theirs if x["system"] == system], "rounds" + suffix, target)
                both = [x / y for x, y in zip(a, b, strict=True) if x and y]
                line["ratio" + suffix] = round(statistics.median(both), 3) if both else None
                line["ratios" + suffix] = [round(r, 3) for r in both]
                line["ours" + suffix] = [x and round(x, 1) for x in a]
                line["peer" + suffix] = [x and round(x, 1) for x in b]
            yield line


def machine():
    model = next((x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")), "?")
    a = np.random.default_rng(0).standard_normal((1024, 1024), np.float32)
    flat = faiss.IndexFlatL2(1024)
    flat.add(a)
    faiss.omp_set_num_threads(1)
    flat.search(a, 1)
    start = time.perf_counter()
    flat.search(a, 1)
    return {
        "machine": model,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "faiss": faiss.__version__,
        "simd": faiss.SIMDConfig.get_level_name(),
        "compiled": faiss.get_compile_options().strip(),
        "blas_gflops_1_thread": round(2 * 1024**3 / (time.perf_counter() - start) / 1e9, 1),
        "OPENBLAS_CORETYPE": systems.FORCED_BLAS and f"{systems.FORCED_BLAS}, unset for this run",
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=pathlib.Path, help="a data set of data.py")
    p.add_argument("--mode", choices=list(THREADS), default="single")
    p.add_argument(
        "--only", nargs="+", default=["x4fs"], help="parts of system names, such as x4fs IVF4096,Flat HNSW32 hnswlib (default x4fs)"
    )
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--batch", type=int, default=BATCH, help="queries in a batch")
    p.add_argument("--queries", type=int, help="use the first so many only, for a quick look (give --ours the same flag)")
    p.add_argument("--seconds", type=float, default=1.0, help="of one repetition of one point")
    p.add_argument("--ours", help="a command that measures our index; see README.md")
    p.add_argument("--out", type=pathlib.Path, help="append the lines here too")
    p.add_argument("--build-only", action="store_true")
    p.add_argument("--build-threads", type=int, default=1, help="two are sooner done and, on a busy machine, count CPU seconds of waiting")
    args = p.parse_args()

    def say(line):
        print(json.dumps(line), flush=True)
        if args.out:
            with open(args.out, "a") as f:
                f.write(json.dumps(line) + "\n")

    dataset = systems.Dataset(args.folder)
    if args.queries:
        dataset.queries, dataset.truth = dataset.queries[: args.queries], dataset.truth[: args.queries]
    say(machine())
    chosen = systems.peers(dataset, args.only)
    for peer in chosen:
        faiss.omp_set_num_threads(args.build_threads)
        peer.load()
        if args.build_only:
            say(
                {
                    "built": peer.system,
                    "dataset": dataset.name,
                    "cpu_s": round(peer.build_cpu_s, 1),
                    "bytes_per_vector": round(peer.size / dataset.rows, 1),
                }
            )
            peer.index = peer.ivf = None
    if args.build_only:
        return
    points = []
    for peer in chosen:
        points += survey(peer, args.mode, args.seconds / 5, args.batch)
        print(f"{peer.system}: {len(points)} points so far", file=sys.stderr, flush=True)
    for point in points:
        point.recalls()
    ours = args.ours and Ours(args.ours, args.folder, args.mode, args.rounds)
    for i in range(args.rounds):
        turns = [ours.round] if ours else []
        turns.append(lambda: [point.repeat(args.seconds) for point in points])
        for turn in turns if i % 2 else turns[::-1]:  # neither side always comes first
            turn()
        print(f"round {i + 1} of {args.rounds}", file=sys.stderr, flush=True)
    theirs = [point.line() for point in points]
    mine = ours.lines() if ours else []
    for line in [*mine, *theirs, *(ratios(mine, theirs, dataset, args.mode) if ours else ())]:
        say(line)


if __name__ == "__main__":
    main()
