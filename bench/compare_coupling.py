"""compare_coupling.py - CFlow's coupling block, forward and forward+backward, against the same block in PyTorch.

Rows 256 (a fibre batch) and 8192; 512, 1024 and 2048 channels, those of a Wide-ResNet-50-2's levels. Both sides make the same
weights by the rule of tests/golden/README.md; the losses must agree. PyTorch runs operator by operator, as the reference
does, and compiled where torch.compile works; both sides also with operands rounded to bfloat16, PyTorch by its autocast. Last
lines, each the smallest over all shapes of PyTorch's fastest time over ours: `ratio coupling-forward-bf16 VALUE` and `ratio
coupling-bf16 VALUE`, of bfloat16 and all of PyTorch's, `ratio coupling-forward VALUE` and `ratio coupling VALUE`, of the float32
forms; those without `forward` are of forward and backward.
"""
import peer

args = peer.start(__doc__, rows=["256", "8192"], channels=["512", "1024", "2048"], condition=128)

import numpy as np
import torch

import flow_torch

torch.set_num_threads(args.threads)
BOUND = 1e-5  # of the loss: sums of a few thousand terms in float32, averaged over the rows
BOUND_BF16 = 2**-7  # as tests/golden/README.md has it


def work(channels, condition, rows, backward):
    """Multiplications and additions of one block."""
    inside = channels / 2 + condition
    subnet, rotation = 2 * inside**2 + 2 * inside * channels, channels**2
    return 2 * rows * (3 * subnet + 2 * rotation if backward else subnet + rotation)


class Torch:
    def __init__(self, channels, rows, backward, compiled=False, bf16=False):
        self.flow = flow_torch.Flow(torch, np, channels, args.condition, 1, backward)
        self.x, self.cond = flow_torch.rows(torch, np, "x", rows, channels), flow_torch.rows(torch, np, "cond", rows, args.condition)
        self.x.requires_grad_(backward)
        self.backward, self.bf16 = backward, bf16
        self.loss_of = torch.compile(self.flow.loss) if compiled else self.flow.loss

    def __call__(self):
        for p in [self.x, *self.flow.parameters()]:
            p.grad = None
        with torch.set_grad_enabled(self.backward), torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            self.loss = self.loss_of(self.x, self.cond)
        if self.backward:
            self.loss.backward()


def optional(name, *what, **how):
    """A form of PyTorch's that not every machine can run: torch.compile wants a compiler, autocast instructions."""
    try:
        step = Torch(*what, **how)
        step()
        return {name: step}
    except Exception as error:  # whatever it raises here, the comparison goes on without it
        print(f"  {name} does not run here: {type(error).__name__}")
        return {}


def serve(channels, rows, backward, precision):
    return peer.Served(args.bin / "bench-flow", "--channels", channels, "--rows", rows, "--condition", args.condition, "--threads", args.threads,
                       "--mode", "backward" if backward else "forward", "--precision", precision)


def compare(channels, rows, backward):
    """{precision: ratio}"""
    what = (channels, rows, backward)
    served = {"adze": serve(*what, "f32"), "adze, bf16": serve(*what, "bf16")}
    sides = {"torch eager": Torch(*what), **optional("torch compiled", *what, compiled=True), **optional("torch autocast bf16", *what, bf16=True)}
    exact = served["adze"].facts["loss0"]
    for name, step in sides.items():
        step()
        loss, bound = float(step.loss.detach()), BOUND_BF16 if "bf16" in name else BOUND
        peer.check(abs(loss - exact) <= bound * abs(loss), f"loss of {name}: {loss}, ours {exact}")
    rounded = served["adze, bf16"].facts["loss0"]
    peer.check(abs(rounded - exact) <= BOUND_BF16 * abs(exact), f"loss in bfloat16 {rounded}, in float32 {exact}")
    product, flops = peer.matmul(torch)
    times = peer.alternate({**sides, **served, "product": product}, args.rounds)
    rate = flops / min(times.pop("product"))
    for server in served.values():
        server.close()
    floor = work(channels, args.condition, rows, backward) / rate
    title = "forward and backward" if backward else "forward"
    peer.table(f"{title}, {rows} rows of {channels}", times, floor, f"its FLOPs at torch's product in float32, {1e-9 * rate:.0f} GFLOP/s")
    whole = {name: seconds for name, seconds in times.items() if "bf16" not in name}
    others = {name: seconds for name, seconds in times.items() if name != "adze"}
    exact_peers = {name: seconds for name, seconds in others.items() if name in (*whole, "adze, bf16")}
    return {"adze": peer.ratio_of(whole, ("adze",)), "adze, bf16": peer.ratio_of(others, ("adze, bf16",)),
            "adze, bf16, of float32": peer.ratio_of(exact_peers, ("adze, bf16",))}


def main():
    print(f"coupling block, {args.threads} threads; peer: torch {torch.__version__}, condition {args.condition}")
    shapes = [(int(c), int(r)) for r in args.rows for c in args.channels]
    ratios = {backward: {shape: compare(*shape, backward) for shape in shapes} for backward in (False, True)}
    least = lambda backward, name: min(value[name] for value in ratios[backward].values())
    for backward, what in ((False, "forward"), (True, "forward and backward")):
        for (channels, rows), value in ratios[backward].items():
            print(f"  {what}, {rows} rows of {channels}: torch in float32 / adze {value['adze']:.2f}, / adze in bf16 "
                  f"{value['adze, bf16, of float32']:.2f}; the fastest of torch / adze in bf16 {value['adze, bf16']:.2f}")
    for backward, what in ((False, "forward"), (True, "forward and backward")):
        print(f"  {what}, smallest: torch in float32 / adze in bf16 {least(backward, 'adze, bf16, of float32'):.2f}")
    peer.ratio("coupling-forward-bf16", least(False, "adze, bf16"))
    peer.ratio("coupling-bf16", least(True, "adze, bf16"))
    peer.ratio("coupling-forward", least(False, "adze"))
    peer.ratio("coupling", least(True, "adze"))


main()
