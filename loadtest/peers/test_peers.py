"""python -m unittest test_peers: the arithmetic, the data's promises, and the protocol of --ours."""

import json
import math
import pathlib
import subprocess
import sys
import tempfile
import unittest

import data
import numpy as np
import peers

HERE = pathlib.Path(__file__).parent

# A program as --ours wants it. It answers at once, so its figures are round by round 100 and 200.
STUB = """
import argparse, json, sys
p = argparse.ArgumentParser()
for flag in ("--data", "--repeat", "--mode"): p.add_argument(flag, required=True)
for flag in ("--json", "--wait"): p.add_argument(flag, action="store_true", required=True)
args = p.parse_args()
print(json.dumps({"done": 0}), flush=True)
for i in range(int(args.repeat)):
    sys.stdin.readline()
    for setting, recall in (("a", 0.9), ("b", 0.999)):
        print(json.dumps({"system": "akidb stub", "setting": setting, "dataset": "tiny", "mode": args.mode, "recall@1": recall, "recall@10": recall,
            "recall@100": recall, "qps": 100 * (i + 1), "qps_cpu": 100, "build_cpu_s": 1, "bytes_per_vector": 1}))
    print(json.dumps({"done": i + 1}), flush=True)
"""


class Arithmetic(unittest.TestCase):
    def test_front(self):
        points = [(0.9, 100), (0.95, 50), (0.94, 40), (0.99, 10), (0.9, 90)]
        self.assertEqual(peers.pareto(points), [(0.9, 100), (0.95, 50), (0.99, 10)])

    def test_at_recall(self):
        points = [(0.90, 400.0), (0.96, 100.0), (0.98, 50.0)]
        self.assertAlmostEqual(peers.at_recall(points, 0.93), math.sqrt(400 * 100))
        self.assertEqual(peers.at_recall(points, 0.96), 100)
        self.assertEqual(peers.at_recall(points, 0.5), 400)
        self.assertIsNone(peers.at_recall(points, 0.99))

    def test_recall(self):
        truth = np.arange(200).reshape(2, 100)
        found = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 8, 99], [101, 100, 102, 103, 104, 105, 106, 107, 108, 109]])
        self.assertAlmostEqual(peers.recall(found, truth, 10), 0.95)
        self.assertAlmostEqual(peers.recall(found, truth, 1), 0.5)


class Data(unittest.TestCase):
    SHAPE = dict(spread=1.5, centre_decay=0.7, noise_decay=0.8)

    def test_a_seed_is_a_data_set(self):
        a, b, c = (data.Clusters(8, seed=s, unit=True, **self.SHAPE) for s in (1, 1, 2))
        self.assertTrue(np.array_equal(a.draw(50, 3), b.draw(50, 3)))
        self.assertFalse(np.array_equal(a.draw(50, 3), a.draw(50, 4)))
        self.assertFalse(np.array_equal(a.draw(50, 3), c.draw(50, 3)))
        np.testing.assert_allclose(np.linalg.norm(a.draw(50, 3), axis=1), 1, atol=1e-6)

    def test_truth(self):
        clusters = data.Clusters(8, seed=1, unit=False, **self.SHAPE)
        base, queries = clusters.draw(500, 1), clusters.draw(9, 0)
        for metric in ("l2", "cosine"):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "base.fvecs"
                data.write_vecs(path, base)
                self.assertTrue(np.array_equal(data.read_vecs(path), base))
                block, data.BLOCK = data.BLOCK, 130  # several, the last one short
                try:
                    found = data.truth(path, queries, metric)
                finally:
                    data.BLOCK = block
            a, b = (data.unit(queries), data.unit(base)) if metric == "cosine" else (queries, base)
            want = ((a[:, None].astype(np.float64) - b[None]) ** 2).sum(2)
            got = np.take_along_axis(want, found.astype(np.int64), 1)
            np.testing.assert_allclose(got, np.sort(want, 1)[:, :100], rtol=1e-4, atol=1e-6)


class EndToEnd(unittest.TestCase):
    def test_in_turn_and_report(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name) / "tiny"
            folder.mkdir()
            clusters = data.Clusters(32, seed=1, unit=False, **Data.SHAPE)
            data.write_vecs(folder / "base.fvecs", clusters.draw(3000, 1))
            data.write_vecs(folder / "query.fvecs", clusters.draw(50, 0))
            data.finish(folder, "tiny", "l2", {})
            stub, out = folder / "stub.py", folder / "out.jsonl"
            stub.write_text(STUB)
            command = [
                sys.executable,
                HERE / "peers.py",
                folder,
                "--only",
                "IVF256,PQ",
                "HNSW32",
                "--batch",
                "50",
                "--rounds",
                "3",
                "--seconds",
                "0.01",
            ]
            command += ["--ours", f"{sys.executable} {stub}", "--out", out]
            for mode in peers.THREADS:
                done = subprocess.run([*command, "--mode", mode], capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
            lines = [json.loads(text) for text in out.read_text().splitlines()]
            ratios = [x for x in lines if "against" in x]
            self.assertEqual({x["target"] for x in ratios}, set(peers.TARGETS))
            self.assertEqual(ratios[0]["ours"], [100, 200, 300])
            self.assertEqual(next(x["qps"] for x in lines if x.get("system") == "akidb stub"), 200)
            subprocess.run([sys.executable, HERE / "report.py", out, "--into", folder / "docs"], check=True)
            self.assertIn("akidb stub", (folder / "docs" / "index.md").read_text())
            self.assertLess((folder / "docs" / "tiny-single.svg").stat().st_size, 150_000)


class Lance(unittest.TestCase):
    def test_buckets_are_those_of_the_go_program(self):
        import lance

        self.assertEqual(lance.bucket_of(np.array([0, 1, 2, 12345, 999_999])).tolist(), [535, 700, 679, 961, 353])


if __name__ == "__main__":
    unittest.main()
