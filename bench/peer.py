"""peer.py - what the comparisons share: threads, programs run in lock-step, alternating rounds, checks, the table.

A comparison begins with `args = peer.start(...)`, before it imports numpy, torch or faiss: their thread pools read the
environment when they load. These machines are noisy: runners alternate within each round, minima are compared.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import time


def start(description, **options):
    """Parses --bin, --threads, --rounds and `options` (name = default; a list takes several words); sets the thread counts
    of every library."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of adze's programs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each, at least 5")
    for name, default in options.items():
        several = {"nargs": "+"} if isinstance(default, list) else {"type": type(default)}
        parser.add_argument("--" + name.replace("_", "-"), default=default, **several)
    args = parser.parse_args()
    args.rounds = max(5, args.rounds)
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
        os.environ[name + "_NUM_THREADS"] = str(args.threads)
    # Two runtimes in turn on the same cores: idle threads of the one must not spin while the other works.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return args


def check(ok, what):
    """A comparison whose answers differ gives no ratio."""
    if not ok:
        sys.exit(f"answers differ: {what}")


class Served:
    """A program of ours that does one run per line on its standard input and answers with the seconds it took. Its first
    line says what it found out before: pairs of a name and a number, in `facts`."""

    def __init__(self, program, *arguments):
        words = [str(word) for word in (program, *arguments, "--serve")]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().split()
        if not line:
            sys.exit(f"{' '.join(words)} failed")
        self.facts = {line[i]: float(line[i + 1]) for i in range(0, len(line), 2)}

    def __call__(self):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} stopped")
        return float(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def alternate(runners, rounds):
    """{name: runner} -> {name: [seconds]}; a runner that returns None is timed from outside. One warm-up each."""
    times = {name: [] for name in runners}
    for turn in range(rounds + 1):
        for name, runner in runners.items():
            begin = time.perf_counter()
            seconds = runner()
            seconds = time.perf_counter() - begin if seconds is None else seconds
            if turn > 0:
                times[name].append(seconds)
    return times


def fastest(function, count):
    """A runner: the fastest of `count` calls in a row, for work so short that one disturbance spoils a single call."""

    def run():
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            function()
            times.append(time.perf_counter() - begin)
        return min(times)

    return run


def wait(torch, device):
    """Until the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize()


def matmul(torch, device="cpu"):
    """A runner for torch's own matrix product and its FLOP: put among the others, its fastest run is the floor of
    whatever is made of multiplications and additions."""
    n = 2048 if device == "cpu" else 8192
    a, b = torch.rand(n, n, device=device), torch.rand(n, n, device=device)
    return fastest(lambda: (torch.mm(a, b), wait(torch, device)), 5), 2.0 * n**3


def copy(numpy, megabytes=256):
    """A runner for a plain copy and the bytes that it reads and writes: the floor of whatever only moves memory."""
    a, b = numpy.ones(megabytes << 18, numpy.float32), numpy.zeros(megabytes << 18, numpy.float32)
    return fastest(lambda: numpy.copyto(b, a), 5), 2.0 * a.nbytes


def table(title, times, floor, floor_of):
    """One row per runner: median and fastest, and how much of the floor (seconds; `floor_of` says of what) it reaches."""
    print(f"{title}\n  floor {1e3 * floor:.2f} ms ({floor_of})")
    print(f"  {'':34}{'median ms':>10}{'fastest ms':>12}{'% of floor':>12}")
    for name, seconds in times.items():
        middle = sorted(seconds)[len(seconds) // 2]
        print(f"  {name:34}{1e3 * middle:10.2f}{1e3 * min(seconds):12.2f}{100 * floor / min(seconds):12.0f}", flush=True)


def ratio_of(times, ours):
    """Time of the fastest peer over our time, minima."""
    return min(min(seconds) for name, seconds in times.items() if name not in ours) / min(min(times[name]) for name in ours)


def ratio(name, value):
    """The last line of a comparison."""
    print(f"ratio {name} {value:.2f}", flush=True)


def golden_unit(numpy, name, count, chunk=1 << 22):
    """The deterministic tensor `name` of tests/golden/README.md, in [-1, 1), as float64."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    out = numpy.empty(count)
    for begin in range(0, count, chunk):
        x = numpy.arange(begin, min(begin + chunk, count), dtype=numpy.uint64) + numpy.uint64(seed)
        x += numpy.uint64(0x9E3779B97F4A7C15)
        x = (x ^ x >> numpy.uint64(30)) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ x >> numpy.uint64(27)) * numpy.uint64(0x94D049BB133111EB)
        x ^= x >> numpy.uint64(31)
        out[begin : begin + len(x)] = (x >> numpy.uint64(40)) * 2.0**-23 - 1.0
    return out


def golden_weight(numpy, name, shape):
    """The weight rule of tests/golden/README.md, float32."""
    u = golden_unit(numpy, name, int(numpy.prod(shape))).reshape(shape)
    if len(shape) > 1:
        u = u * (3.0 / numpy.prod(shape[1:])) ** 0.5
    elif name.endswith("running_var"):
        u = 1 + 0.5 * u
    elif name.endswith("running_mean"):
        u = 0.1 * u
    elif name.endswith(("weight", "gamma")):
        u = 1 + 0.2 * u
    else:
        u = 0.1 * u
    return u.astype(numpy.float32)
