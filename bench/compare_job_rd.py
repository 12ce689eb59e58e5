"""compare_job_rd.py - training reverse distillation from a folder of pictures, cached features against PyTorch without.

The same job on both sides: resnet18, batch 16, every epoch all pictures shuffled, the incomplete batch left out. adze-train
computes the teacher's features once (--cache memory) and writes its resumable state after every epoch; PyTorch decodes with
Pillow, resizes and runs the teacher in every epoch, with 4 persistent loader workers, and writes nothing. The teacher's
weights are made by the rule of tests/golden/README.md. The step itself is checked by compare_train_rd.py; here both sides
must do the same number of steps, and the loss of the last epoch must lie below that of the first step.

Whole runs of --epochs alternate; an epoch counts from its second on, and nothing is extrapolated. --rounds below 5 are
raised to 5, so that a quick look needs --pictures, --epochs or --size. Last line: `ratio job-rd VALUE`, of one epoch.
"""
import csv
import pathlib
import shutil
import subprocess
import tempfile
import time

import peer

args = peer.start(__doc__, size=256, batch=16, backbone="resnet18", epochs=3, pictures=0, workers=4, layouts=["channels-last"],
                  data="datasets/samples/pcb/train/good")

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

import rd_torch

torch.set_num_threads(args.threads)
LAYOUTS = {"channels-last": torch.channels_last, "nchw": torch.contiguous_format}
EXTENSIONS = (".png", ".jpg", ".jpeg")


class Pictures(torch.utils.data.Dataset):
    def __init__(self, files):
        self.files = files
        self.prepare = transforms.Compose([transforms.Resize((args.size, args.size)), transforms.ToTensor(),
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


def torch_run(files, layout):
    begin, ends, losses = time.perf_counter(), [], []
    teacher = lambda name, shape: None if name.startswith(("mff_oce", "net_s")) else torch.from_numpy(peer.golden_weight(np, name, shape))
    net = rd_torch.build(args.backbone, teacher).to(memory_format=layout)
    optimizer = rd_torch.optimizer(net)
    loader = torch.utils.data.DataLoader(Pictures(files), args.batch, shuffle=True, drop_last=True, num_workers=args.workers,
                                         persistent_workers=args.workers > 0)
    for _ in range(args.epochs):
        for x in loader:
            losses.append(rd_torch.step(net, net.teacher_features(x.contiguous(memory_format=layout)), optimizer))
        ends.append(time.perf_counter())
    return Run(ends[-1] - begin, ends, losses)


def adze_run(root, weights, out):
    words = [args.bin / "adze-train", "--method", "rd", "--backbone", args.backbone, "--weights", weights, "--data", root, "--out", out,
             "--epochs", args.epochs, "--batch", args.batch, "--size", args.size, "--threads", args.threads, "--device", "cpu",
             "--cache", "memory", "--log", "quiet", "--force"]
    begin = time.perf_counter()
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
    total = time.perf_counter() - begin
    (log,) = out.glob("*/train.csv")
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    ends = [float(row["elapsed_s"]) for row, after in zip(rows, [*rows[1:], None]) if not after or after["epoch"] != row["epoch"]]
    return Run(total, ends, [float(row["loss"]) for row in rows])


def teacher_file(folder):
    """The made-up teacher as adze's weights file."""
    import torchvision

    net = getattr(torchvision.models, args.backbone)(weights=None)
    for name, tensor in net.state_dict().items():
        if tensor.dim() > 0:
            tensor.copy_(torch.from_numpy(peer.golden_weight(np, name, tuple(tensor.shape))))
    torch.save(net.state_dict(), folder / "teacher.pth")
    words = [args.bin / "adze-weights", "import", folder / "teacher.pth", "--as", args.backbone, "-o", folder / "teacher.h5"]
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder / "teacher.h5"


def check(name, run, steps):
    peer.check(len(run.losses) == steps, f"{name}: {len(run.losses)} steps, want {steps}")
    last = run.losses[-(steps // args.epochs) :]
    peer.check(sum(last) / len(last) < run.losses[0], f"{name}: the loss does not fall: {run.losses[0]:.4f} to {last[-1]:.4f}")


def main():
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
        weights = teacher_file(folder)
        runners = {f"torch eager, {name}, no cache": lambda name=name: torch_run(files, LAYOUTS[name]) for name in args.layouts}
        runners["adze, cached"] = lambda: adze_run(folder / "data", weights, folder / "run")
        for _ in range(args.rounds):
            for name, runner in runners.items():
                runs.setdefault(name, []).append(runner())
                check(name, runs[name][-1], steps)
    print(f"RD, {args.backbone}, {len(files)} pictures to {args.size}x{args.size}, {args.epochs} epochs of {steps // args.epochs} steps of "
          f"{args.batch}, {args.threads} threads, {args.workers} loader workers; peer: torch {torch.__version__}")
    epoch = {name: [s for run in part for s in run.epoch] for name, part in runs.items()}
    total = {name: [run.total for run in part] for name, part in runs.items()}
    print(f"  {'':34}{'epoch: median s':>16}{'fastest s':>11}{'run: median s':>15}{'fastest s':>11}{'first loss':>12}{'last':>8}")
    for name in runs:
        middle = lambda seconds: sorted(seconds)[len(seconds) // 2]
        losses = runs[name][0].losses
        print(f"  {name:34}{middle(epoch[name]):16.2f}{min(epoch[name]):11.2f}{middle(total[name]):15.2f}{min(total[name]):11.2f}"
              f"{losses[0]:12.4f}{losses[-1]:8.4f}")
    print(f"  a run of {args.epochs} epochs as a whole, features and start included: {peer.ratio_of(total, ('adze, cached',)):.2f}")
    peer.ratio("job-rd", peer.ratio_of(epoch, ("adze, cached",)))


if __name__ == "__main__":
    main()
