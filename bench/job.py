"""job.py - training a method from a folder of pictures, adze with cached features against PyTorch without, for the comparisons.

PyTorch decodes with Pillow, resizes and runs the frozen network in every epoch, with persistent loader workers, and writes
nothing; adze-train computes the frozen features once (--cache memory) and writes its resumable state after every epoch. The
frozen network's weights are made by the rule of tests/golden/README.md. Both sides must do the same number of steps with
finite losses and, for methods whose loss falls from the start, that of the last epoch must lie below the first step's. Whole
runs of --epochs alternate; an epoch counts from its second on, and nothing is extrapolated.
"""
import csv
import pathlib
import shutil
import subprocess
import tempfile
import time

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

import peer

EXTENSIONS = (".png", ".jpg", ".jpeg")


class Pictures(torch.utils.data.Dataset):
    def __init__(self, files, size):
        self.files = files
        self.prepare = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor(),
                                           transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return self.prepare(Image.open(self.files[i]).convert("RGB"))


class Run:
    """What a run of --epochs took: `epoch` holds the seconds of the second epoch and later ones, `losses` every step's."""

    def __init__(self, total, ends, losses):
        self.total, self.losses = total, losses
        self.epoch = [end - begin for begin, end in zip(ends, ends[1:])]


def frozen_weight(name, shape):
    return torch.from_numpy(peer.golden_weight(np, name, shape))


def torch_run(args, files, make, layout):
    """make(layout) -> a step: pictures in, loss out."""
    begin, ends, losses = time.perf_counter(), [], []
    step = make(layout)
    loader = torch.utils.data.DataLoader(Pictures(files, args.size), args.batch, shuffle=True, drop_last=True, num_workers=args.workers,
                                         persistent_workers=args.workers > 0)
    for _ in range(args.epochs):
        for x in loader:
            losses.append(step(x.contiguous(memory_format=layout)))
        ends.append(time.perf_counter())
    return Run(ends[-1] - begin, ends, losses)


def adze_run(args, method, root, weights, out):
    words = [args.bin / "adze-train", "--method", method, "--backbone", args.backbone, "--weights", weights, "--data", root, "--out", out,
             "--epochs", args.epochs, "--batch", args.batch, "--size", args.size, "--threads", args.threads, "--device", "cpu",
             "--precision", args.precision, "--cache", "memory", "--log", "quiet", "--force"]
    begin = time.perf_counter()
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
    total = time.perf_counter() - begin
    (log,) = out.glob("*/train.csv")
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    ends = [float(row["elapsed_s"]) for row, after in zip(rows, [*rows[1:], None]) if not after or after["epoch"] != row["epoch"]]
    return Run(total, ends, [float(row["loss"]) for row in rows])


def weights_file(args, folder):
    """The made-up frozen network as adze's weights file."""
    import torchvision

    net = getattr(torchvision.models, args.backbone)(weights=None)
    for name, tensor in net.state_dict().items():
        if tensor.dim() > 0:
            tensor.copy_(frozen_weight(name, tuple(tensor.shape)))
    torch.save(net.state_dict(), folder / "frozen.pth")
    words = [args.bin / "adze-weights", "import", folder / "frozen.pth", "--as", args.backbone, "-o", folder / "frozen.h5"]
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder / "frozen.h5"


def check(args, name, run, steps, falls):
    peer.check(len(run.losses) == steps, f"{name}: {len(run.losses)} steps, want {steps}")
    peer.check(all(np.isfinite(run.losses)), f"{name}: a loss is not finite")
    if not falls:
        return
    last = run.losses[-(steps // args.epochs) :]
    peer.check(sum(last) / len(last) < run.losses[0], f"{name}: the loss does not fall: {run.losses[0]:.4f} to {last[-1]:.4f}")


def compare(args, method, title, makers, falls=True):
    """makers: {name: (make, layout)} of PyTorch's configurations; falls: the loss does so from the start. Prints the table and the
    ratio of one epoch."""
    peer.check(args.epochs >= 2, "--epochs: the first one is not counted, so at least 2")
    found = sorted(p for p in pathlib.Path(args.data).iterdir() if p.suffix.lower() in EXTENSIONS)
    found = found[: args.pictures or None]
    steps = len(found) // args.batch * args.epochs
    peer.check(steps > 0, f"{len(found)} pictures in {args.data} are fewer than a batch")
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        good = folder / "data" / "job" / "train" / "good"
        good.mkdir(parents=True)
        files = [shutil.copy(path, good) for path in found]
        weights = weights_file(args, folder)
        runners = {name: lambda make=make, layout=layout: torch_run(args, files, make, layout) for name, (make, layout) in makers.items()}
        runners["adze, cached"] = lambda: adze_run(args, method, folder / "data", weights, folder / "run")
        for _ in range(args.rounds):
            for name, runner in runners.items():
                runs.setdefault(name, []).append(runner())
                check(args, name, runs[name][-1], steps, falls)
    print(f"{title}, {args.backbone}, {len(files)} pictures to {args.size}x{args.size}, {args.epochs} epochs of {steps // args.epochs} steps of "
          f"{args.batch}, {args.threads} threads, {args.workers} loader workers; peer: torch {torch.__version__}, float32; adze: {args.precision}")
    epoch = {name: [s for run in part for s in run.epoch] for name, part in runs.items()}
    total = {name: [run.total for run in part] for name, part in runs.items()}
    print(f"  {'':38}{'epoch: median s':>16}{'fastest s':>11}{'run: median s':>15}{'fastest s':>11}{'first loss':>12}{'last':>8}")
    for name in runs:
        middle = lambda seconds: sorted(seconds)[len(seconds) // 2]
        losses = runs[name][0].losses
        print(f"  {name:38}{middle(epoch[name]):16.2f}{min(epoch[name]):11.2f}{middle(total[name]):15.2f}{min(total[name]):11.2f}"
              f"{losses[0]:12.4f}{losses[-1]:8.4f}")
    for name in makers:
        print(f"  {name} / adze: {min(epoch[name]) / min(epoch['adze, cached']):.2f}")
    print(f"  a run of {args.epochs} epochs as a whole, features and start included: {peer.ratio_of(total, ('adze, cached',)):.2f}")
    peer.ratio(f"job-{method}", peer.ratio_of(epoch, ("adze, cached",)))
