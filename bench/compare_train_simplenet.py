"""compare_train_simplenet.py - one training step of SimpleNet (wide_resnet50_2, batch 8) against PyTorch eager.

A step is the frozen backbone, patch features, noise, projection and discriminator forward, backward, clipping and both
optimisers. Both sides make the same weights and pictures by the rule of tests/golden/README.md and run float32; without noise
the losses of the first three steps must agree. PyTorch runs as the reference does, with a backward per optimiser, and with one for both,
as NCHW and channels-last. The step with given patch features, as it is with a cache, stands in the table on both
sides. Last line: `ratio train-simplenet VALUE`, of the steps with the backbone.
"""
import json
import subprocess

import peer

args = peer.start(__doc__, size=256, batch=8, backbone="wide_resnet50_2", steps=3)

import numpy as np
import torch

import simplenet_torch

torch.set_num_threads(args.threads)
BOUND = 1e-3  # of the loss; Adam's first steps are lr * sign(gradient), so rounding shows by the second one


class Step:
    """One step per call; the loss is read, as a training log does."""

    def __init__(self, layout, passes=1, cached=False, deviation=0.015):
        net = simplenet_torch.build(args.backbone, lambda name, shape: torch.from_numpy(peer.golden_weight(np, name, shape)))
        self.net = net.to(memory_format=layout)
        x = torch.from_numpy(peer.golden_unit(np, "image", args.batch * 3 * args.size**2).astype(np.float32))
        self.x = x.reshape(args.batch, 3, args.size, args.size).contiguous(memory_format=layout)
        self.step = simplenet_torch.Trainer(self.net, passes, deviation)
        self.rows = self.net.rows(self.x) if cached else None

    def __call__(self):
        self.loss = self.step(self.net.rows(self.x) if self.rows is None else self.rows)


def adze(*more):
    return [args.bin / "bench-train", "--method", "simplenet", "--backbone", args.backbone, "--batch", args.batch, "--size", args.size,
            "--threads", args.threads, "--check", args.steps, *more]


def profile():
    """The ops of our step: their FLOPs and bytes."""
    words = [str(word) for word in adze("--json", "--repeat", 1)]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)["steps"]


def check(layouts):
    """The same losses without noise, whichever way PyTorch goes."""
    quiet = peer.Served(*adze("--set", "noise=0"))
    for name, layout, passes in layouts:
        step = Step(layout, passes, deviation=0.0)
        for i in range(args.steps):
            step()
            ours = quiet.facts[f"loss{i}"]
            print(f"  without noise, loss of step {i + 1}: adze {ours:.7f}, {name} {step.loss:.7f}")
            peer.check(abs(ours - step.loss) <= BOUND * abs(step.loss), f"loss of step {i + 1}")
    quiet.close()


def main():
    ops = profile()
    print(f"SimpleNet, {args.backbone}, {args.threads} threads; peer: torch {torch.__version__}, oneDNN inside: {torch.backends.mkldnn.is_available()}")
    last = torch.channels_last
    layouts = [("torch as the reference, NCHW", torch.contiguous_format, 2), ("torch, one backward, channels-last", last, 1)]
    check(layouts)
    server, cached = peer.Served(*adze()), peer.Served(*adze("--cached"))
    sides = {name: Step(layout, passes) for name, layout, passes in layouts} | {"torch, one backward, cached": Step(last, 1, True)}
    product, product_flops = peer.matmul(torch)
    a, b = torch.ones(1 << 26), torch.zeros(1 << 26)
    times = peer.alternate({**{name: lambda step=step: step() for name, step in sides.items()}, "adze": server, "adze, cached": cached,
                            "product": product, "copy": peer.fastest(lambda: b.copy_(a), 3)}, args.rounds)
    flops_rate, copy_rate = product_flops / min(times.pop("product")), 2 * 4 * a.numel() / min(times.pop("copy"))
    server.close()
    cached.close()
    floor = lambda ops: sum(max(op["flops"] / flops_rate, op["bytes"] / copy_rate) for op in ops)
    what = f"op by op the longer of its FLOPs at torch's product, {1e-9 * flops_rate:.0f} GFLOP/s, and its bytes at torch's copy, {1e-9 * copy_rate:.1f} GB/s"
    short = {name: times.pop(name) for name in list(times) if "cached" in name}
    for title, part, steps in (("the whole step", times, ops), ("patch features given", short, [op for op in ops if op["part"] != "frozen"])):
        peer.table(f"{title}: batch {args.batch}, {args.size}x{args.size}, {1e-9 * sum(op['flops'] for op in steps):.0f} GFLOP, "
                   f"{1e-9 * sum(op['bytes'] for op in steps):.2f} GB", part, floor(steps), what)
    for name in (name for name in times if name != "adze"):
        print(f"  {name} / adze: {min(times[name]) / min(times['adze']):.2f}")
        print(f"  {name} / adze, cached: {min(times[name]) / min(short['adze, cached']):.2f}")
    print(f"  cached / adze: {peer.ratio_of(short, ('adze, cached',)):.2f}")
    peer.ratio("train-simplenet", peer.ratio_of(times, ("adze",)))


if __name__ == "__main__":
    main()
