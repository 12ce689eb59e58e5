"""compare_coupling.py - CFlow's coupling block, forward and forward+backward, against the same block in PyTorch.

Rows 256 (a fibre batch) and 8192; 512, 1024 and 2048 channels, those of a Wide-ResNet-50-2's levels. Both sides make the same
weights by the rule of tests/golden/README.md; the losses must agree. PyTorch runs operator by operator, as the reference
does, and compiled where torch.compile works. Last line: `ratio coupling VALUE`, the smallest over all shapes of
PyTorch's fastest time over ours, forward and backward; the forward ones stand above it.
"""
import peer

args = peer.start(__doc__, rows=["256", "8192"], channels=["512", "1024", "2048"], condition=128)

import numpy as np
import torch

import flow_torch

torch.set_num_threads(args.threads)
BOUND = 1e-5  # of the loss: sums of a few thousand terms in float32, averaged over the rows


def work(channels, condition, rows, backward):
    """Multiplications and additions of one block."""
    inside = channels / 2 + condition
    subnet, rotation = 2 * inside**2 + 2 * inside * channels, channels**2
    return 2 * rows * (3 * subnet + 2 * rotation if backward else subnet + rotation)


class Torch:
    def __init__(self, channels, rows, backward, compiled=False):
        self.flow = flow_torch.Flow(torch, np, channels, args.condition, 1, backward)
        self.x, self.cond = flow_torch.rows(torch, np, "x", rows, channels), flow_torch.rows(torch, np, "cond", rows, args.condition)
        self.x.requires_grad_(backward)
        self.backward = backward
        self.loss_of = torch.compile(self.flow.loss) if compiled else self.flow.loss

    def __call__(self):
        if not self.backward:
            with torch.no_grad():
                self.loss = self.loss_of(self.x, self.cond)
            return
        for p in [self.x, *self.flow.parameters()]:
            p.grad = None
        self.loss = self.loss_of(self.x, self.cond)
        self.loss.backward()


def compiled(*what):
    """torch.compile's form, where this machine has a compiler that it accepts."""
    try:
        step = Torch(*what, compiled=True)
        step()
        return {"torch compiled": step}
    except Exception as error:  # whatever it raises here, the comparison goes on without it
        print(f"  torch.compile does not run here: {type(error).__name__}")
        return {}


def compare(channels, rows, backward):
    server = peer.Served(args.bin / "bench-flow", "--channels", channels, "--rows", rows, "--condition", args.condition, "--threads", args.threads,
                         "--mode", "backward" if backward else "forward")
    sides = {"torch eager": Torch(channels, rows, backward), **compiled(channels, rows, backward)}
    for name, step in sides.items():
        step()
        loss = float(step.loss.detach())
        peer.check(abs(loss - server.facts["loss0"]) <= BOUND * abs(loss), f"loss of {name}: {loss}, ours {server.facts['loss0']}")
    product, flops = peer.matmul(torch)
    times = peer.alternate({**sides, "adze": server, "product": product}, args.rounds)
    rate = flops / min(times.pop("product"))
    server.close()
    floor = work(channels, args.condition, rows, backward) / rate
    what = "forward and backward" if backward else "forward"
    peer.table(f"{what}, {rows} rows of {channels}", times, floor, f"its FLOPs at torch's product, {1e-9 * rate:.0f} GFLOP/s")
    return peer.ratio_of(times, ("adze",))


def main():
    print(f"coupling block, {args.threads} threads; peer: torch {torch.__version__}, condition {args.condition}")
    shapes = [(int(c), int(r)) for r in args.rows for c in args.channels]
    ratios = {backward: {shape: compare(*shape, backward) for shape in shapes} for backward in (False, True)}
    for backward, what in ((False, "forward"), (True, "forward and backward")):
        for (channels, rows), value in ratios[backward].items():
            print(f"  {what}, {rows} rows of {channels}: torch / adze {value:.2f}")
    peer.ratio("coupling-forward", min(ratios[False].values()))
    peer.ratio("coupling", min(ratios[True].values()))


main()
