"""compare_decode.py - pictures decoded, resized and normalised on one core, against Pillow and torchvision.

Every tensor of adze is compared first and must equal that of Pillow + torchvision bit for bit. One thread on both sides whatever
--threads says. Last line: `ratio decode VALUE`, against the fastest peer that gives the same pixels. A peer whose pixels
differ (torchvision's tensor path) stands in the table with its largest difference and its own ratio.
"""
import hashlib
import json
import os
import subprocess
import sys

import peer

SAMPLES = ["../shared/data/surfaces/%s" % name for name in ("cookie", "magtile", "pcb", "road", "weave")] + ["../shared/data/elcells"]
args = peer.start(__doc__, size=256, most=30, data=[f for f in SAMPLES if os.path.isdir(f)] or ["datasets/samples"])

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

torch.set_num_threads(1)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SAME = 1e-5  # one level of 255 is 0.017 after the division by std; float rounding stays below 1e-6
EXTENSIONS = (".png", ".jpg", ".jpeg")


def pictures():
    """Pictures below each folder without masks, at most --most per folder, evenly spread."""
    chosen = []
    for folder in args.data:
        found = []
        for place, _, names in os.walk(folder):
            if "ground_truth" not in place:
                found += [os.path.join(place, name) for name in names if name.lower().endswith(EXTENSIONS)]
        found.sort()
        count = min(args.most, len(found))
        chosen += [found[i * len(found) // count] for i in range(count)]
    peer.check(chosen, "no pictures below " + " ".join(args.data))
    return chosen


def peers():
    """Name -> function from a path to a (3,size,size) float32 tensor; the first is the reference."""
    size = (args.size, args.size)
    resize = transforms.Resize(size)
    classic = transforms.Compose([resize, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    float_and_normal = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD, inplace=True)]
    after_pillow = v2.Compose([v2.PILToTensor(), *float_and_normal])
    on_tensors = v2.Compose([v2.Resize(size, antialias=True), *float_and_normal])
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)

    def by_numpy(path):
        x = np.asarray(resize(Image.open(path).convert("RGB")), np.float32)
        return torch.from_numpy(((x / np.float32(255) - mean) / std).transpose(2, 0, 1))

    return {
        "Pillow, torchvision transforms": lambda path: classic(Image.open(path).convert("RGB")),
        "Pillow, torchvision v2": lambda path: after_pillow(resize(Image.open(path).convert("RGB"))),
        "Pillow, NumPy": by_numpy,
        "torchvision.io, v2 on tensors": lambda path: on_tensors(decode_image(path, ImageReadMode.RGB)),
    }


def adze(files, *flags):
    words = [str(args.bin / "bench-decode"), "--size", str(args.size), *flags, *files]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)


def differences(files, sides):
    """Largest difference of each side from the reference; stops unless ours is the reference bit for bit."""
    ours = adze(files, "--check")["sha256"]
    worst = dict.fromkeys(sides, 0.0)
    for path in files:
        tensors = {name: side(path).contiguous() for name, side in sides.items()}
        reference = next(iter(tensors.values()))
        peer.check(hashlib.sha256(reference.numpy().tobytes()).hexdigest() == ours[path], path)
        for name, tensor in tensors.items():
            worst[name] = max(worst[name], float((tensor - reference).abs().max()))
    return worst


def main():
    if int(PIL.__version__.split(".")[0]) >= 13:
        sys.exit("Pillow %s resizes some shapes in another order; install Pillow < 13" % PIL.__version__)
    files, sides, parts = pictures(), peers(), []
    worst = differences(files, sides)
    print(f"{len(files)} pictures to {args.size}x{args.size}, one thread; peers: Pillow {PIL.__version__}, torchvision "
          f"{torchvision.__version__}, torch {torch.__version__}\nevery tensor of adze equals Pillow + torchvision bit for bit")

    def ours():
        parts.append(adze(files))
        return parts[-1]["seconds"]

    def loop(side):
        for path in files:
            side(path)

    runners = {name: lambda side=side: loop(side) for name, side in sides.items()}
    times = peer.alternate({**runners, "adze": ours}, args.rounds)
    best = min(parts, key=lambda run: run["seconds"])
    peer.table("all pictures", times, best["decode_s"], "adze's libpng and libjpeg-turbo decoding alone")
    print("  adze, ms: decode {decode_s:.1f}, resize {resize_s:.1f}, normalise {normalize_s:.1f}".format(
        **{name: 1e3 * value for name, value in best.items()}))
    for name in sides:
        print(f"  {name:34} / adze: {min(times[name]) / min(times['adze']):.2f}, largest difference {worst[name]:.2g}")
    peer.ratio("decode", peer.ratio_of({name: times[name] for name in times if worst.get(name, 0.0) < SAME}, ("adze",)))


if __name__ == "__main__":
    main()
