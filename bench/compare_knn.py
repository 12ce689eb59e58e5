"""compare_knn.py - adze's exact k-NN query against FAISS IndexFlatL2, alternating, answers checked first.

python bench/compare_knn.py --bin build/bin [--threads 2] [--rounds 7] [--k 1] [--bank B.npy --queries Q.npy]

Needs numpy and faiss-cpu. Without files: two banks (24,576 and 2,457 rows, 1,024 queries, 1,024 columns) of clustered
non-negative points, as patch features are. Last line: `ratio knn VALUE`, the smaller of the two banks' ratios of FAISS's
fastest time to that of adze's fastest certified search (all of them give the exact rows).
"""
import argparse
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np

PRECISIONS = ("f32", "bf16", "int8")
SHAPES = ((1024, 24576, 1024), (1024, 2457, 1024))


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--bin", type=pathlib.Path, required=True, help="folder of bench-knn")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--k", type=int, default=1)
    p.add_argument("--bank", type=pathlib.Path)
    p.add_argument("--queries", type=pathlib.Path)
    return p.parse_args()


def features(rng, rows, columns, centres):
    """Rectified mixtures of a few directions: correlated columns, clusters, no negative values."""
    weights = rng.gamma(0.5, size=(rows, centres.shape[0])).astype(np.float32)
    x = weights @ centres + 0.2 * rng.standard_normal((rows, columns), dtype=np.float32)
    return np.maximum(x, 0).astype(np.float32)


def data_sets(args, folder):
    if args.bank:
        yield np.load(args.queries), np.load(args.bank), args.queries, args.bank
        return
    rng = np.random.default_rng(1)
    for Q, M, D in SHAPES:
        centres = rng.standard_normal((24, D), dtype=np.float32) / np.float32(D) ** 0.5
        q, bank = features(rng, Q, D, centres), features(rng, M, D, centres)
        paths = folder / f"q{M}.npy", folder / f"b{M}.npy"
        np.save(paths[0], q)
        np.save(paths[1], bank)
        yield q, bank, *paths


class Served:
    """bench-knn --serve: one run per line."""

    def __init__(self, args, precision, queries, bank, folder):
        self.idx, self.dist = folder / f"{precision}-idx.npy", folder / f"{precision}-dist.npy"
        command = [args.bin / "bench-knn", "--bank", bank, "--queries", queries, "--precision", precision, "--k", str(args.k),
                   "--threads", str(args.threads), "--idx", self.idx, "--dist", self.dist, "--serve"]
        env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), OMP_WAIT_POLICY="passive")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        words = self.process.stdout.readline().split()
        if not words:
            sys.exit(f"bench-knn --precision {precision} failed")
        self.facts = {words[i]: float(words[i + 1]) for i in range(0, len(words), 2)}

    def run(self):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def check(name, q, bank, k, idx, dist):
    """Every neighbour's distance in double, and no bank row of a sample nearer than the last one."""
    d = np.stack([((q.astype(np.float64) - bank[idx[:, j]]) ** 2).sum(1) for j in range(k)], 1)
    if not np.allclose(d, dist, rtol=2e-7, atol=1e-30):
        sys.exit(f"{name}: distances are not those of the neighbours it names")
    for i in range(0, len(q), max(1, len(q) // 16)):
        full = ((q[i].astype(np.float64) - bank) ** 2).sum(1)
        want = np.lexsort((np.arange(len(bank)), full))[:k]
        if not np.array_equal(want, idx[i]):
            sys.exit(f"{name}: query {i}: rows {idx[i]}, the full scan says {want}")


def main():
    args = arguments()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import faiss

    faiss.omp_set_num_threads(args.threads)
    ratios = []
    print(f"k-NN, k = {args.k}, {args.threads} threads, {platform.processor() or platform.machine()}; peer: faiss-cpu "
          f"{faiss.__version__} IndexFlatL2 ({faiss.get_compile_options().strip()})")
    print(f"{'bank':>8} {'who':>10} {'median ms':>10} {'fastest':>8} {'Gop/s':>8} {'floor ms':>9} {'% of floor':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for q, bank, q_path, bank_path in data_sets(args, folder):
            index = faiss.IndexFlatL2(bank.shape[1])
            index.add(bank)
            served = {p: Served(args, p, q_path, bank_path, folder) for p in PRECISIONS}
            for p, s in served.items():
                check(p, q, bank, args.k, np.load(s.idx), np.load(s.dist))
            agree = (index.search(q, args.k)[1] == np.load(served["f32"].idx)).mean()
            times = {who: [] for who in ("faiss", *PRECISIONS)}
            for _ in range(max(5, args.rounds)):
                start = time.perf_counter()
                index.search(q, args.k)
                times["faiss"].append(time.perf_counter() - start)
                for p, s in served.items():
                    times[p].append(s.run())
            flop = 2.0 * len(q) * bank.size
            for who, t in times.items():
                peak = served["f32" if who == "faiss" else who].facts["peak"]
                print(f"{len(bank):8d} {who:>10} {1e3 * np.median(t):10.2f} {1e3 * min(t):8.2f} {1e-9 * flop / min(t):8.1f} "
                      f"{1e3 * flop / peak:9.2f} {100 * flop / peak / min(t):10.0f} {min(times['faiss']) / min(t):6.2f}")
            reruns = ", ".join(f"{p} {s.facts['rerun_f32']:.0f}" for p, s in served.items())
            print(f"         faiss agrees on {100 * agree:.2f} % of the rows; queries run again: {reruns}")
            ratios.append(min(times["faiss"]) / min(min(times[p]) for p in PRECISIONS))
            for s in served.values():
                s.close()
    print(f"ratio knn {min(ratios):.2f}")


if __name__ == "__main__":
    main()
