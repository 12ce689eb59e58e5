"""compare_kcenter.py - greedy k-center, 10 % of 24,576 x 128, against anomalib's KCenterGreedy, torch and NumPy loops.

adze's picks must equal, all of them, a NumPy loop in the arithmetic of core/kcenter.h. --points names a float32 .npy file
to use instead of clustered random points; --big 1 adds 245,760 rows, where the peers make a hundredth of their picks
(each costs the same) and are extrapolated. Last line: `ratio kcenter VALUE`, at the first size.
"""
import pathlib
import tempfile

import peer

args = peer.start(__doc__, points="", big=0)
args.rounds = min(args.rounds, 5)  # the peers take seconds

import numpy as np
import torch

torch.set_num_threads(args.threads)
torch.set_grad_enabled(False)


def features(N, d):
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
        diff = x[:, j : j + 16] - x[p, j : j + 16]
        lanes[:, : diff.shape[1]] += diff * diff
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half : 2 * half]
    return np.sqrt(lanes[:, 0])


def start_of(x):
    """Mean distance to the ten starts that bench-kcenter takes."""
    starts = [i * len(x) // 10 for i in range(10)]
    return (sum(distances(x, s).astype(np.float64) for s in starts) / 10).astype(np.float32)


def exact_picks(x, start, K):
    m, picks = start.copy(), []
    for _ in range(K):
        picks.append(int(m.argmax()))
        np.minimum(m, distances(x, picks[-1]), out=m)
    return np.array(picks)


def numpy_loop(x, start, K):
    m = start.copy()
    for _ in range(K):
        diff = x - x[m.argmax()]
        np.minimum(m, np.sqrt(np.einsum("ij,ij->i", diff, diff)), out=m)


def torch_loop(x, start, K):
    """Expanded form with the norms computed once: the fastest plain loop that we know."""
    m, norms = start.clone(), (x * x).sum(1)
    for _ in range(K):
        p = int(m.argmax())
        torch.minimum(m, (norms + norms[p] - 2.0 * (x @ x[p])).clamp_(min=0).sqrt_(), out=m)


def anomalib_loop(x, K):
    m, p = None, 0
    for _ in range(K):
        d = torch.linalg.norm(x - x[p], ord=2, dim=1)
        m = d if m is None else torch.minimum(m, d)
        p = int(m.argmax())
        m[p] = 0.0


def anomalib_peer(x):
    """anomalib's class (which leaves its projection out when the embedding has three dimensions), or its loop restated."""
    try:
        import anomalib
        from anomalib.models.components.sampling import k_center_greedy as module
    except ImportError:
        return "anomalib's loop, restated", lambda K: anomalib_loop(x, K)
    module.tqdm = lambda steps, **_: steps
    select = lambda K: module.KCenterGreedy(x[:, :, None], (K + 0.5) / len(x)).select_coreset_idxs()
    return f"anomalib {anomalib.__version__} KCenterGreedy", select


def compare(points, share, folder):
    """The peers make `share` of the picks."""
    x = np.load(points)
    N, d = x.shape
    K = int(0.1 * N)
    part, start, x_torch = max(20, int(share * K)), start_of(x), torch.from_numpy(x)
    server = peer.Served(args.bin / "bench-kcenter", "--points", points, "--threads", args.threads, "--picks",
                         folder / "picks.npy")
    picks, want = np.load(folder / "picks.npy").ravel()[:part], exact_picks(x, start, part)
    peer.check(np.array_equal(picks, want), f"pick {int((picks != want).argmax())} of {part}")
    name, anomalib = anomalib_peer(x_torch)
    peers = {
        f"numpy {np.__version__} loop": lambda: numpy_loop(x, start, part),
        f"torch {torch.__version__} loop": lambda: torch_loop(x_torch, torch.from_numpy(start), part),
        name: lambda: anomalib(part) and None,
    }
    times = peer.alternate({**peers, "adze": server}, args.rounds)
    times = {who: seconds if who == "adze" else [t * K / part for t in seconds] for who, seconds in times.items()}
    server.close()
    note = "" if part == K else f"; peers extrapolated from {part} picks"
    peer.table(f"k-center, {K} of {N} x {d}, {args.threads} threads; first {part} picks as the plain loop{note}", times,
               2.0 * N * K * d / server.facts["peak_bf16"], "every pair once, in bfloat16, at the peak measured beside it")
    settled = server.facts["filtered"] / (N * K)
    print(f"    adze looks at {100 * settled:.1f} % of the pairs, and takes {server.facts['direct']:.0f} direct distances")
    return peer.ratio_of(times, ["adze"])


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    if not args.points:
        np.save(folder / "points.npy", features(24576, 128))
    value = compare(args.points or folder / "points.npy", 1.0, folder)
    if args.big:
        np.save(folder / "big.npy", features(245760, 128))
        compare(folder / "big.npy", 0.01, folder)
peer.ratio("kcenter", value)
