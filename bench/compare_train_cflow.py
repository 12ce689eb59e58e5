"""compare_train_cflow.py - one fibre step of CFlow (256 feature vectors, 8 blocks) against PyTorch.

A step gathers rows by number from a batch's features, runs the flow forward and backward and does Adam's step. Both sides make
the same weights and rows by the rule of tests/golden/README.md; the losses of the first three steps must agree. PyTorch runs
operator by operator with Adam as the reference has it and in its fused form; both sides also with operands rounded to bfloat16,
PyTorch by its autocast. Last lines, PyTorch's fastest form over ours: `ratio train-cflow-bf16 VALUE`, of bfloat16 and all of
PyTorch's, and `ratio train-cflow VALUE`, of the float32 forms, both of the sums over the levels, weighted by how often a batch of 32
pictures steps each (128, 32, 8 times).
"""
import peer

args = peer.start(__doc__, channels=["512", "1024", "2048"], rows=256, blocks=8, condition=128, steps=3)

import numpy as np
import torch

import flow_torch

torch.set_num_threads(args.threads)
BOUND = 1e-4  # of the loss; Adam's first steps are lr * sign(gradient), so rounding shows by the second one
POOL = 4  # rows to draw from, in fibre batches


class Step:
    def __init__(self, channels, fused, bf16=False):
        self.bf16 = bf16
        self.flow = flow_torch.Flow(torch, np, channels, args.condition, args.blocks, True)
        pool = POOL * args.rows
        self.x, self.cond = flow_torch.rows(torch, np, "x", pool, channels), flow_torch.rows(torch, np, "cond", pool, args.condition)
        self.row = torch.arange(args.rows) * 7 % pool
        self.optimizer = torch.optim.Adam(self.flow.parameters(), lr=2e-4, fused=fused)

    def __call__(self):
        self.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            loss = self.flow.loss(self.x[self.row], self.cond[self.row])
        self.loss = loss.item()
        loss.backward()
        self.optimizer.step()


def work(channels):
    """Multiplications and additions of one step."""
    inside = channels / 2 + args.condition
    return 2 * args.rows * args.blocks * (3 * (2 * inside**2 + 2 * inside * channels) + 2 * channels**2)


def serve(channels, precision):
    return peer.Served(args.bin / "bench-flow", "--channels", channels, "--rows", args.rows, "--blocks", args.blocks, "--condition", args.condition,
                       "--threads", args.threads, "--mode", "step", "--precision", precision)


def check(name, losses, exact):
    """float32: the bound above; bfloat16: a first loss within 2^-7, later ones an eighth of the descent more, as in tests/golden."""
    for i, loss in enumerate(losses):
        want = exact[f"loss{i}"]
        bound = 2**-7 * abs(want) + abs(exact["loss0"] - want) / 8 if "bf16" in name else BOUND * abs(want)
        peer.check(abs(loss - want) <= bound, f"loss of step {i + 1} of {name}: {loss}, ours {want}")


def losses_of(step):
    losses = []
    for _ in range(args.steps):
        step()
        losses.append(step.loss)
    return losses


def torch_bf16(channels, exact):
    """PyTorch's autocast, where this processor runs it."""
    try:
        step = Step(channels, True, bf16=True)
        losses = losses_of(step)
    except RuntimeError as error:
        print(f"  torch autocast does not run here: {error}")
        return {}
    check("torch autocast bf16", losses, exact)
    return {"torch autocast bf16, fused Adam": step}


def compare(channels):
    served = {"adze": serve(channels, "f32"), "adze, bf16": serve(channels, "bf16")}
    exact, rounded = served["adze"].facts, served["adze, bf16"].facts
    sides = {"torch eager": Step(channels, False), "torch eager, fused Adam": Step(channels, True)}
    for name, step in sides.items():
        check(name, losses_of(step), exact)
    check("adze, bf16", [rounded[f"loss{i}"] for i in range(args.steps)], exact)
    sides.update(torch_bf16(channels, exact))
    product, flops = peer.matmul(torch)
    times = peer.alternate({**sides, **served, "product": product}, args.rounds)
    rate = flops / min(times.pop("product"))
    for server in served.values():
        server.close()
    peer.table(f"a step of {args.rows} rows of {channels}, {args.blocks} blocks: {1e-9 * work(channels):.1f} GFLOP", times, work(channels) / rate,
               f"its FLOPs at torch's product in float32, {1e-9 * rate:.0f} GFLOP/s")
    return times


def main():
    print(f"CFlow, {args.threads} threads; peer: torch {torch.__version__}")
    total = {"torch f32": 0.0, "torch": 0.0, "adze": 0.0, "adze, bf16": 0.0}
    for channels in map(int, args.channels):
        times = compare(channels)
        often = 32 * (16384 // channels) ** 2 // args.rows  # places of a 256x256 picture at this level
        fastest = lambda start: min(min(seconds) for name, seconds in times.items() if name.startswith(start))
        best = {"torch f32": fastest("torch eager"), "torch": fastest("torch"), "adze": min(times["adze"]), "adze, bf16": min(times["adze, bf16"])}
        print(f"  {channels} channels, {often} steps a batch: torch in float32 / adze {best['torch f32'] / best['adze']:.2f}, / adze in bf16 "
              f"{best['torch f32'] / best['adze, bf16']:.2f}; the fastest of torch / adze in bf16 {best['torch'] / best['adze, bf16']:.2f}")
        total = {name: seconds + often * best[name] for name, seconds in total.items()}
    print(f"  all levels: torch in float32 / adze in bf16 {total['torch f32'] / total['adze, bf16']:.2f}")
    peer.ratio("train-cflow-bf16", total["torch"] / total["adze, bf16"])
    peer.ratio("train-cflow", total["torch f32"] / total["adze"])


main()
