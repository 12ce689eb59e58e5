"""compare_knn.py - exact k-NN query, 1,024 x 24,576 and 2,457 rows x 1,024, against FAISS IndexFlatL2.

Both answers are checked in double first. The points are clustered, correlated and non-negative, as patch features are;
--bank and --queries name .npy files (float32) to use instead. adze searches in float32, bfloat16 and 8-bit integers;
each is certified, so all give the same exact rows. Last line: `ratio knn VALUE`, the smaller of the two banks' ratios.
"""
import pathlib
import tempfile

import peer

args = peer.start(__doc__, k=1, bank="", queries="")

import faiss
import numpy as np

faiss.omp_set_num_threads(args.threads)
PRECISIONS = ("f32", "bf16", "int8")
SHAPES = ((1024, 24576, 1024), (1024, 2457, 1024))


def features(rng, rows, centres):
    weights = rng.gamma(0.5, size=(rows, len(centres))).astype(np.float32)
    noise = rng.standard_normal((rows, centres.shape[1]), dtype=np.float32)
    return np.maximum(weights @ centres + np.float32(0.2) * noise, 0)


def data_sets(folder):
    """(queries, bank, and their files)"""
    if args.bank:
        yield np.load(args.queries), np.load(args.bank), args.queries, args.bank
        return
    rng = np.random.default_rng(1)
    for Q, M, D in SHAPES:
        centres = rng.standard_normal((24, D), dtype=np.float32) / np.float32(D) ** 0.5
        paths = folder / f"q{M}.npy", folder / f"b{M}.npy"
        for path, rows in zip(paths, (Q, M)):
            np.save(path, features(rng, rows, centres))
        yield np.load(paths[0]), np.load(paths[1]), *paths


def check(name, q, bank, idx, dist):
    """Every neighbour's distance, and for some of the queries a full scan, in double."""
    for j in range(args.k):
        d = ((q.astype(np.float64) - bank[idx[:, j]]) ** 2).sum(1)
        peer.check(np.allclose(d, dist[:, j], rtol=2e-7, atol=1e-30), f"{name}: not the distances of the rows it names")
    for i in range(0, len(q), max(1, len(q) // 16)):
        full = ((q[i].astype(np.float64) - bank) ** 2).sum(1)
        want = np.lexsort((np.arange(len(bank)), full))[: args.k]
        peer.check(np.array_equal(want, idx[i]), f"{name}: query {i}: rows {idx[i]}, the full scan says {want}")


def serve(precision, q, bank, q_path, bank_path, folder):
    idx, dist = folder / f"{precision}-idx.npy", folder / f"{precision}-dist.npy"
    server = peer.Served(args.bin / "bench-knn", "--bank", bank_path, "--queries", q_path, "--precision", precision, "--k",
                         args.k, "--threads", args.threads, "--idx", idx, "--dist", dist)
    check(precision, q, bank, np.load(idx), np.load(dist))
    return server, np.load(idx)


def compare(q, bank, q_path, bank_path, folder):
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    servers, found = {}, None
    for p in PRECISIONS:
        servers[f"adze {p}"], found = serve(p, q, bank, q_path, bank_path, folder)
    agree = (index.search(q, args.k)[1] == found).mean()
    peer.check(agree > 0.99, f"FAISS agrees on {100 * agree:.2f} % of the rows only")
    times = peer.alternate({f"faiss-cpu {faiss.__version__} IndexFlatL2": lambda: index.search(q, args.k) and None, **servers},
                           args.rounds)
    flop, facts = 2.0 * len(q) * bank.size, {name: s.facts for name, s in servers.items()}
    floors = {name: flop / f["peak"] for name, f in facts.items()}
    title = f"k-NN, k = {args.k}: {len(q)} queries x {len(bank)} rows x {bank.shape[1]}, {args.threads} threads"
    peer.table(title, times, floors["adze f32"], "the product in float32 at the peak measured beside it")
    for name, floor in floors.items():
        print(f"    {name}: its own floor {1e3 * floor:.2f} ms, {100 * floor / min(times[name]):.0f} % of it; "
              f"{min(next(iter(times.values()))) / min(times[name]):.2f} x FAISS; {facts[name]['candidates']:.0f} candidates, "
              f"{facts[name]['rerun_f32']:.0f} queries run again in f32, {facts[name]['rerun_direct']:.0f} scanned directly")
    print(f"    FAISS names the same row in {100 * agree:.2f} % of the places")
    for server in servers.values():
        server.close()
    return peer.ratio_of(times, list(servers))


with tempfile.TemporaryDirectory() as name:
    ratios = [compare(*data, pathlib.Path(name)) for data in data_sets(pathlib.Path(name))]
peer.ratio("knn", min(ratios))
