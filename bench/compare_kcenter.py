"""compare_kcenter.py - adze's greedy k-center against anomalib's KCenterGreedy and plain NumPy and torch loops.

python bench/compare_kcenter.py --bin build/bin [--threads 2] [--rounds 5] [--points X.npy] [--big]

Needs numpy and torch; anomalib if it is there (else its loop, restated: L2 norm of differences, element-wise minimum,
argmax). All select 10 % of the rows. N = 24,576 x 128 by default; --big adds 245,760, where the peers run a hundredth of
their picks and are extrapolated (their picks cost the same each). The picks are checked first: adze's against the NumPy
loop in the arithmetic of core/kcenter.h (all of them at N = 24,576, identical). Last line: `ratio kcenter VALUE`, the
fastest peer's time / adze's at N = 24,576.
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


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--bin", type=pathlib.Path, required=True, help="folder of bench-kcenter")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--points", type=pathlib.Path)
    p.add_argument("--big", action="store_true")
    return p.parse_args()


def features(N, d):
    """Projected patch features as they come: clusters of uneven size on a few directions, plus noise."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((60, d), dtype=np.float32)
    directions = rng.standard_normal((12, d), dtype=np.float32) * np.float32(0.3)
    x = centres[rng.integers(0, 60, N) * rng.integers(0, 2, N)]
    x += rng.standard_normal((N, 12), dtype=np.float32) @ directions
    return x + np.float32(0.1) * rng.standard_normal((N, d), dtype=np.float32)


def distances(x, p):
    """The distance of core/kcenter.h: 16 lanes, each in ascending order, then a tree."""
    lanes = np.zeros((len(x), 16), np.float32)
    for j in range(0, x.shape[1], 16):
        diff = x[:, j:j + 16] - x[p, j:j + 16]
        lanes[:, :diff.shape[1]] += diff * diff
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half:2 * half]
    return np.sqrt(lanes[:, 0])


def start_of(x, starts):
    return (sum(distances(x, s).astype(np.float64) for s in starts) / len(starts)).astype(np.float32)


def exact_picks(x, starts, K):
    m, picks = start_of(x, starts), []
    for _ in range(K):
        p = int(m.argmax())
        picks.append(p)
        np.minimum(m, distances(x, p), out=m)
    return np.array(picks)


def numpy_loop(x, starts, K):
    m = start_of(x, starts)
    for _ in range(K):
        p = int(m.argmax())
        diff = x - x[p]
        np.minimum(m, np.sqrt(np.einsum("ij,ij->i", diff, diff)), out=m)


def torch_loop(torch, x, starts, K):
    """Expanded form with the norms computed once: the fastest plain loop that we know."""
    m = torch.from_numpy(start_of(x.numpy(), starts))
    norms = (x * x).sum(1)
    for _ in range(K):
        p = int(m.argmax())
        torch.minimum(m, (norms + norms[p] - 2.0 * (x @ x[p])).clamp_(min=0).sqrt_(), out=m)


def anomalib_loop(torch, x, K):
    m = None
    p = 0
    for _ in range(K):
        d = torch.linalg.vector_norm(x - x[p], ord=2, dim=1, keepdim=True)
        m = d if m is None else torch.minimum(m, d)
        p = int(m.argmax())
        m[p] = 0


def anomalib_peer(torch, x):
    """anomalib's own class, without its projection; or the loop restated."""
    try:
        import anomalib
        from anomalib.models.components import KCenterGreedy
    except ImportError:
        return "anomalib's loop", lambda K: anomalib_loop(torch, x, K)

    def run(K):
        sampler = KCenterGreedy(embedding=x, sampling_ratio=K / len(x))
        sampler.model.fit = lambda *_: None
        sampler.model.transform = lambda e: e
        sampler.select_coreset_idxs()

    return f"anomalib {anomalib.__version__}", run


class Served:
    """bench-kcenter --serve: one run per line."""

    def __init__(self, args, points, folder):
        self.picks = folder / "picks.npy"
        command = [args.bin / "bench-kcenter", "--points", points, "--threads", str(args.threads), "--picks", self.picks,
                   "--serve"]
        env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), OMP_WAIT_POLICY="passive")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        words = self.process.stdout.readline().split()
        if not words:
            sys.exit("bench-kcenter failed")
        self.facts = {words[i]: float(words[i + 1]) for i in range(0, len(words), 2)}

    def run(self):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(args, torch, points, share, folder):
    """Times of one set; the peers make `share` of the picks. Returns the ratio to the fastest peer."""
    x = np.load(points)
    N, d = x.shape
    K = int(0.1 * N)
    starts = [i * N // 10 for i in range(10)]
    served = Served(args, points, folder)
    part = max(20, int(share * K))
    picks = np.load(served.picks).ravel()
    want = exact_picks(x, starts, part)
    if not np.array_equal(picks[:part], want):
        sys.exit(f"picks differ from the plain loop's after {int((picks[:part] == want).argmin())}")
    t = torch.from_numpy(x)
    name, anomalib = anomalib_peer(torch, t)
    peers = {"numpy loop": lambda: numpy_loop(x, starts, part), "torch loop": lambda: torch_loop(torch, t, starts, part),
             name: lambda: anomalib(part)}
    times = {who: [] for who in (*peers, "adze")}
    for _ in range(max(5, args.rounds) if share == 1.0 else 2):
        for who, run in peers.items():
            begin = time.perf_counter()
            run()
            times[who].append((time.perf_counter() - begin) * K / part)
        times["adze"].append(served.run())
    served.close()
    flop = 2.0 * N * K * d
    floor = flop / served.facts["peak_bf16"]
    print(f"N = {N}, d = {d}, K = {K}; first {part} picks identical to the plain loop; floor = the naive product at the measured "
          f"bf16 peak, {floor:.3f} s; adze settles {100 * served.facts['filtered'] / (N * K):.1f} % of the pairs")
    for who, seconds in times.items():
        note = "" if who == "adze" or part == K else "  (extrapolated)"
        print(f"{who:>18}: median {np.median(seconds):9.3f} s, fastest {min(seconds):9.3f} s, {100 * floor / min(seconds):6.1f} % of "
              f"the floor, {min(seconds) / min(times['adze']):8.1f} x adze{note}")
    return min(min(times[p]) for p in peers) / min(times["adze"])


def main():
    args = arguments()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    torch.set_num_threads(args.threads)
    print(f"greedy k-center, {args.threads} threads, {platform.processor() or platform.machine()}; numpy {np.__version__}, torch "
          f"{torch.__version__}")
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = pathlib.Path(name)
        points = args.points
        if points is None:
            points = folder / "points.npy"
            np.save(points, features(24576, 128))
        ratio = compare(args, torch, points, 1.0, folder)
        if args.big:
            np.save(folder / "big.npy", features(245760, 128))
            compare(args, torch, folder / "big.npy", 0.01, folder)
    print(f"ratio kcenter {ratio:.2f}")


if __name__ == "__main__":
    main()
