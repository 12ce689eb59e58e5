"""Decode + resize + normalise on one core: adze beside Pillow + torchvision.

    python bench/compare_decode.py --bin build/bin --data FOLDER...

Needs Pillow < 13 (Pillow 13 resizes in another order), torch and torchvision. The answer is checked first: every tensor of adze
must equal the Pillow tensor bit for bit. Then the sides run alternately, one process or loop each time, and the fastest of
each is compared. Last line: `ratio decode VALUE`, time over adze's of the fastest peer that gives the same pixels. A peer whose
pixels differ (torchvision's tensor path) stands in the table with its largest difference and its own ratio.
"""
import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

SAME = 1e-5  # a level of 255 is 0.017 after the division by std; float rounding stays below 1e-6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EXTENSIONS = (".png", ".jpg", ".jpeg")


def pictures(folders, most):
    """Pictures below each folder without masks, at most `most` per folder, evenly spread."""
    chosen = []
    for folder in folders:
        found = []
        for place, _, names in os.walk(folder):
            if "ground_truth" not in place:
                found += [os.path.join(place, n) for n in names if n.lower().endswith(EXTENSIONS)]
        found.sort()
        k = min(most, len(found))
        chosen += [found[i * len(found) // k] for i in range(k)]
    if not chosen:
        sys.exit("compare_decode: no pictures below " + " ".join(folders))
    return chosen


def peers(size):
    """Name -> function from a path to a (3,size,size) float32 tensor."""
    classic = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    resize = transforms.Resize((size, size))
    tail = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD, inplace=True)])
    tensor = v2.Compose([v2.Resize((size, size), antialias=True), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD, inplace=True)])
    scale = np.array(STD, np.float32), np.array(MEAN, np.float32)

    def by_numpy(path):
        x = np.asarray(resize(Image.open(path).convert("RGB")), np.float32)
        return torch.from_numpy(((x / np.float32(255) - scale[1]) / scale[0]).transpose(2, 0, 1))

    return {
        "Pillow + torchvision transforms": lambda p: classic(Image.open(p).convert("RGB")),
        "Pillow + torchvision v2": lambda p: tail(resize(Image.open(p).convert("RGB"))),
        "Pillow + NumPy": by_numpy,
        "torchvision.io + v2 on tensors": lambda p: tensor(decode_image(p, ImageReadMode.RGB)),
    }


def adze(args, files, *flags):
    command = [os.path.join(args.bin, "bench-decode"), "--size", str(args.size), *flags, *files]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def processor():
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/bin", help="folder with bench-decode")
    parser.add_argument("--data", nargs="+", default=["datasets/samples"], help="folders with pictures")
    parser.add_argument("--most", type=int, default=60, help="pictures per folder")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--runs", type=int, default=7, help="alternated runs of each side, at least 5")
    args = parser.parse_args()
    if int(PIL.__version__.split(".")[0]) >= 13:
        sys.exit("compare_decode: Pillow %s resizes in another order; install Pillow < 13" % PIL.__version__)
    torch.set_num_threads(1)
    files = pictures(args.data, args.most)
    sides = peers(args.size)

    ours = adze(args, files, "--check")["sha256"]
    wrong, difference = 0, dict.fromkeys(sides, 0.0)
    for path in files:
        reference = None
        for name, run in sides.items():
            y = run(path).contiguous()
            reference = y if reference is None else reference
            difference[name] = max(difference[name], float((y - reference).abs().max()))
        wrong += hashlib.sha256(reference.numpy().tobytes()).hexdigest() != ours[path]
    if wrong:
        sys.exit("compare_decode: %d of %d tensors differ from Pillow + torchvision" % (wrong, len(files)))

    times = {name: [] for name in ["adze", *sides]}
    best = None
    for _ in range(max(5, args.runs)):
        r = adze(args, files)
        times["adze"].append(r["seconds"])
        best = r if best is None or r["seconds"] < best["seconds"] else best
        for name, run in sides.items():
            start = time.perf_counter()
            for path in files:
                run(path)
            times[name].append(time.perf_counter() - start)

    print("decode + resize to %dx%d + normalise, %d pictures, one thread; ms per picture" % (args.size, args.size, len(files)))
    print("machine: %s; Pillow %s, torchvision %s, torch %s" % (processor(), PIL.__version__, torchvision.__version__, torch.__version__))
    print("answer: all %d tensors of adze equal Pillow + torchvision transforms bit for bit\n" % len(files))
    print("%-34s %8s %8s %10s" % ("", "fastest", "median", "difference"))
    for name, t in times.items():
        gap = "-" if name == "adze" else "%.2g" % difference[name]
        print("%-34s %8.3f %8.3f %10s" % (name, 1e3 * min(t) / len(files), 1e3 * sorted(t)[len(t) // 2] / len(files), gap))
    parts = [1e3 * best[k] / len(files) for k in ("decode_s", "resize_s", "normalize_s")]
    print("\nadze: decode %.3f, resize %.3f, normalise %.3f; floor = libpng and libjpeg-turbo decoding alone, %.0f %% of the time"
          % (*parts, 100 * parts[0] / sum(parts)))
    mine = min(times["adze"])
    ratios = {name: min(times[name]) / mine for name in sides}
    print("against " + "; ".join("%s %.2f" % r for r in ratios.items()))
    print("ratio decode %.2f" % min(r for name, r in ratios.items() if difference[name] < SAME))


if __name__ == "__main__":
    main()
