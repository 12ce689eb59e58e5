"""compare_train_destseg.py - a training step of DeSTSeg (resnet18, batch 8), each phase, against PyTorch eager.

A step of phase 1 is the teacher on clean pictures (given features: a second row on both sides, as it is with a cache) and the
student forward, backward, clipping and SGD; of phase 2 teacher and resting student forward, the segmentation network forward and
backward, clipping and SGD. Both sides make the same weights, pictures and masks by the rule of tests/golden/README.md and run
float32; the losses of the first steps must agree. PyTorch runs as NCHW and channels-last, with SGD's fused form. Last line:
`ratio train-destseg VALUE`, of the epochs of both phases: one fifth phase 1 with given features, four fifths phase 2.
"""
import json
import subprocess

import peer

args = peer.start(__doc__, size=256, batch=8, steps=2)

import numpy as np
import torch

import destseg_torch

torch.set_num_threads(args.threads)
# Of the loss. At the real rates rounding grows about tenfold per step in phase 1: only its first step says something sharp.
BOUND = {1: (1e-5, 2e-2), 2: (1e-5, 1e-3)}


def weight(name, shape):
    """The teacher's tensors carry no prefix in adze's rule; running statistics of the trained networks start anew."""
    if name.startswith("net_t."):
        return torch.from_numpy(peer.golden_weight(np, name.removeprefix("net_t."), shape))
    if name.endswith(("running_mean", "running_var")):
        return torch.full(shape, float(name.endswith("var")))
    return torch.from_numpy(peer.golden_weight(np, name, shape))


def picture(name, channels=3, size=None):
    size = size or args.size
    shape = (args.batch, channels, size, size)
    return torch.from_numpy(peer.golden_unit(np, name, int(np.prod(shape))).astype(np.float32)).reshape(shape)


class Step:
    """One step per call; the loss is read, as a training log does."""

    def __init__(self, phase, layout, cached=False):
        self.phase = phase
        self.net = destseg_torch.build(weight, phase).to(memory_format=layout)
        self.clean, self.x = (picture(name).contiguous(memory_format=layout) for name in ("image", "augmented"))
        self.mask = (picture("mask", 1, args.size // 4) > 0.5).float()
        self.optimizer = destseg_torch.optimizer(self.net, phase)
        self.features = self.net.teacher(self.clean) if cached else None

    def __call__(self):
        if self.phase == 1:
            loss = destseg_torch.student_loss(self.net, self.features or self.net.teacher(self.clean), self.x)
        else:
            loss = destseg_torch.segmentation_loss(self.net, self.x, self.mask)
        self.loss = destseg_torch.step(self.net, loss, self.optimizer, self.phase)


def adze(phase, *more):
    return [args.bin / "bench-train", "--method", "destseg", "--backbone", "resnet18", "--part", phase - 1, "--batch", args.batch,
            "--size", args.size, "--threads", args.threads, "--check", args.steps, *more]


def profile(phase, *more):
    """The ops of our step: their FLOPs and bytes."""
    words = [str(word) for word in adze(phase, "--json", "--repeat", 1, *more)]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)["steps"]


def check(name, step, facts):
    for i in range(args.steps):
        step()
        ours = facts[f"loss{i}"]
        print(f"  phase {step.phase}, loss of step {i + 1}: adze {ours:.7f}, {name} {step.loss:.7f}")
        peer.check(abs(ours - step.loss) <= BOUND[step.phase][min(i, 1)] * abs(step.loss), f"phase {step.phase}, loss of step {i + 1}")


def compare(title, phase, *more):
    """Times of the runners of one table."""
    cached = "--cached" in more
    server = peer.Served(*adze(phase, *more))
    sides = {name: Step(phase, layout, cached) for name, layout in (("torch eager, NCHW", torch.contiguous_format), ("torch eager, channels-last", torch.channels_last))}
    for name, step in sides.items():
        check(name, step, server.facts)
    product, product_flops = peer.matmul(torch)
    a, b = torch.ones(1 << 26), torch.zeros(1 << 26)
    times = peer.alternate({**{name: lambda step=step: step() for name, step in sides.items()}, "adze": server, "product": product,
                            "copy": peer.fastest(lambda: b.copy_(a), 3)}, args.rounds)
    server.close()
    flops_rate, copy_rate = product_flops / min(times.pop("product")), 2 * 4 * a.numel() / min(times.pop("copy"))
    ops = profile(phase, *more)
    floor = sum(max(op["flops"] / flops_rate, op["bytes"] / copy_rate) for op in ops)
    what = f"op by op the longer of its FLOPs at torch's product, {1e-9 * flops_rate:.0f} GFLOP/s, and its bytes at torch's copy, {1e-9 * copy_rate:.1f} GB/s"
    peer.table(f"{title}: batch {args.batch}, {args.size}x{args.size}, {1e-9 * sum(op['flops'] for op in ops):.0f} GFLOP", times, floor, what)
    print(f"  {title}: fastest torch / adze {peer.ratio_of(times, ('adze',)):.2f}")
    return times


def main():
    print(f"DeSTSeg, resnet18, {args.threads} threads; peer: torch {torch.__version__}, oneDNN inside: {torch.backends.mkldnn.is_available()}")
    compare("phase 1", 1)
    cached = compare("phase 1, teacher's features given", 1, "--cached")
    second = compare("phase 2", 2)
    total = {name: [0.2 * min(cached[name]) + 0.8 * min(second[name])] for name in cached}
    peer.ratio("train-destseg", peer.ratio_of(total, ("adze",)))


if __name__ == "__main__":
    main()
