"""The data sets and the systems that are measured on them."""

import itertools
import json
import math
import os
import sys

# A core type forced on OpenBLAS, which it reads while it loads, may deny it its best kernels.
FORCED_BLAS = os.environ.pop("OPENBLAS_CORETYPE", None)
# Threads that wait must not burn the CPU seconds that are counted.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import faiss  # noqa: E402
import numpy as np  # noqa: E402

from data import BLOCK, read_vecs, unit  # noqa: E402

K = 10  # neighbours asked for


def cpu_seconds():
    t = os.times()
    return t.user + t.system


class Dataset:
    """The files of one folder. Cosine is searched as l2 of unit vectors."""

    def __init__(self, folder):
        self.folder = folder
        self.cache = folder / "faiss"
        self.cache.mkdir(exist_ok=True)
        self.meta = json.loads((folder / "meta.json").read_text())
        self.name, self.rows, self.dim = self.meta["name"], self.meta["rows"], self.meta["dim"]
        self.base = read_vecs(folder / "base.fvecs")
        self.queries = self.prepare(read_vecs(folder / "query.fvecs"))
        self.truth = np.array(read_vecs(folder / "groundtruth.ivecs", np.int32))
        self.nlist = 1 << round(math.log2(4 * math.sqrt(self.rows)))

    def prepare(self, rows):
        return np.ascontiguousarray(unit(rows) if self.meta["metric"] == "cosine" else rows, np.float32)

    def blocks(self):
        for start in range(0, self.rows, BLOCK):
            yield self.prepare(self.base[start : start + BLOCK])

    def sample(self, count):
        """count rows to train on, the same every time."""
        if count >= self.rows:
            return self.prepare(self.base)
        return self.prepare(self.base[np.sort(np.random.default_rng(1).choice(self.rows, count, replace=False))])


class Faiss:
    """A FAISS index: how to make it, the grid of its settings, how to search it."""

    def __init__(self, dataset, factory, coarse_hnsw=False):
        self.data, self.factory, self.coarse_hnsw = dataset, factory, coarse_hnsw
        self.system = "faiss " + (factory.replace(",", "_HNSW32,", 1) if coarse_hnsw else factory)

    # -- building

    def load(self):
        """Reads the index from the cache, or builds it and caches it."""
        path = self.data.cache / f"{self.factory}.index"
        if not path.exists():
            self.build(path)
        about = json.loads(path.with_suffix(".json").read_text())
        self.build_cpu_s = about["train_cpu_s"] + about["add_cpu_s"]
        self.about = about
        self.size = path.stat().st_size
        self.index = faiss.read_index(str(path))
        if not self.factory.startswith("HNSW"):
            self.ivf = faiss.downcast_index(faiss.extract_index_ivf(self.index))
            if self.coarse_hnsw:
                self.hnsw = faiss.IndexHNSWFlat(self.data.dim, 32)
                self.hnsw.hnsw.efConstruction = 120
                self.hnsw.add(self.ivf.quantizer.reconstruct_n(0, self.ivf.nlist))
                self.flat = self.ivf.quantizer  # the index owns it: keep it alive, put it back never
                self.ivf.own_fields = False
                self.ivf.quantizer = self.hnsw
                self.size += self.data.nlist * (32 * 2 + 1) * 4 + self.data.nlist * self.data.dim * 4

    def build(self, path):
        index = faiss.index_factory(self.data.dim, self.factory)
        about = {"train_cpu_s": 0.0}
        start = cpu_seconds()
        if self.factory.startswith("HNSW"):
            index.hnsw.efConstruction = 120
        else:
            ivf = faiss.downcast_index(faiss.extract_index_ivf(index))
            centroids, about = self.centroids(ivf)
            start = cpu_seconds()
            faiss.downcast_index(ivf.quantizer).add(centroids)
            ivf.quantizer_trains_alone = 0
            index.train(self.data.sample(100_000))  # the product quantizer, if there is one
            about["train_cpu_s"] += cpu_seconds() - start
            start = cpu_seconds()
        for block in self.data.blocks():
            index.add(block)
            print(f"{self.factory}: {index.ntotal} rows, {cpu_seconds() - start:.0f} CPU s", file=sys.stderr, flush=True)
        about["add_cpu_s"] = cpu_seconds() - start
        faiss.write_index(index, str(path))
        path.with_suffix(".json").write_text(json.dumps(about) + "\n")

    def centroids(self, ivf):
        """Coarse centroids as FAISS would train them, made once for all factories of a data set.
        Above 128 dimensions 64 rows a list are trained on instead of 256: k-means there takes many minutes."""
        path = self.data.cache / f"centroids{ivf.nlist}.npy"
        about = path.with_suffix(".json")
        if not path.exists():
            a_list = ivf.cp.max_points_per_centroid if self.data.dim <= 128 else 64
            sample = self.data.sample(a_list * ivf.nlist)
            start = cpu_seconds()
            flat = faiss.IndexFlatL2(self.data.dim)
            clustering = faiss.Clustering(self.data.dim, ivf.nlist, ivf.cp)
            clustering.train(sample, flat)
            about.write_text(json.dumps({"train_cpu_s": cpu_seconds() - start, "train_rows": len(sample)}) + "\n")
            np.save(path, flat.reconstruct_n(0, ivf.nlist))
        return np.load(path), json.loads(about.read_text())

    # -- searching

    def grid(self):
        if self.factory.startswith("HNSW"):
            for ef in (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768):
                yield {"efSearch": ef}
            return
        probes = [p for p in (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384) if p <= self.ivf.nlist // 2]
        if "RFlat" not in self.factory:
            probes = [p for p in probes if p in (8, 16, 32, 64, 128)]
        factors = (2, 3, 4, 6, 8, 12, 16, 24, 32) if "RFlat" in self.factory else (None,)
        for probe, factor, ef in itertools.product(probes, factors, (1, 2) if self.coarse_hnsw else (None,)):
            setting = {"nprobe": probe, "k_factor": factor, "coarse_ef": ef and max(16, ef * probe)}
            yield {k: v for k, v in setting.items() if v is not None}

    def set(self, setting):
        if "efSearch" in setting:
            self.index.hnsw.efSearch = setting["efSearch"]
            return
        self.ivf.nprobe = setting["nprobe"]
        if "k_factor" in setting:
            self.index.k_factor = setting["k_factor"]
        if "coarse_ef" in setting:
            self.hnsw.hnsw.efSearch = setting["coarse_ef"]

    def search(self, queries, k):
        return self.index.search(queries, k)[1]

    def one_by_one(self, queries):
        """A function that searches for each of queries alone, past FAISS's Python wrapper, whose checks cost several us."""
        distances, ids = np.empty(K, np.float32), np.empty(K, np.int64)
        out = faiss.swig_ptr(distances), faiss.swig_ptr(ids)
        pointers = [faiss.swig_ptr(q) for q in queries]
        search = self.index.search_c

        def run(order, hold=(queries, distances, ids)):  # the arrays have to live as long as the pointers
            for i in order:
                search(1, pointers[i], K, *out)

        return run


class HNSWlib:
    """hnswlib with the parameters of FAISS's HNSW32."""

    def __init__(self, dataset):
        self.data, self.system = dataset, "hnswlib M=32"

    def load(self):
        import hnswlib

        path = self.data.cache / "hnswlib32.index"
        about = path.with_suffix(".json")
        self.index = hnswlib.Index("l2", self.data.dim)
        if not path.exists():
            start = cpu_seconds()
            self.index.init_index(self.data.rows, M=32, ef_construction=120)
            for block in self.data.blocks():
                self.index.add_items(block)
                print(f"hnswlib: {self.index.element_count} rows, {cpu_seconds() - start:.0f} CPU s", file=sys.stderr, flush=True)
            about.write_text(json.dumps({"train_cpu_s": 0, "add_cpu_s": cpu_seconds() - start}) + "\n")
            self.index.save_index(str(path))
        else:
            self.index.load_index(str(path))
        self.build_cpu_s, self.size = json.loads(about.read_text())["add_cpu_s"], path.stat().st_size

    def grid(self):
        for ef in (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768):
            yield {"ef": ef}

    def set(self, setting):
        self.ef = setting["ef"]
        self.index.set_ef(self.ef)

    def search(self, queries, k):
        self.index.set_ef(max(self.ef, k))
        return self.index.knn_query(queries, k, num_threads=faiss.omp_get_max_threads())[0]

    def one_by_one(self, queries):
        def run(order):
            for i in order:
                self.index.knn_query(queries[i], K, num_threads=1)

        return run


def peers(dataset, only):
    """The systems to measure on a data set; only is a list of substrings of their names."""
    d, nlist = dataset.dim, dataset.nlist
    codes = {128: [64], 384: [96, 192], 768: [192]}.get(d, [d // 2])
    all_ = [Faiss(dataset, f"IVF{nlist},PQ{m}x4fs,RFlat", hnsw) for m in codes for hnsw in (False, True)]
    all_ += [Faiss(dataset, f"IVF{nlist},Flat"), Faiss(dataset, "HNSW32"), HNSWlib(dataset)]
    return [p for p in all_ if any(o in p.system for o in only)]
