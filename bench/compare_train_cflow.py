"""compare_train_cflow.py - one fibre step of CFlow (256 feature vectors, 8 blocks) against PyTorch.

A step gathers rows by number from a batch's features, runs the flow forward and backward and does Adam's step. Both sides make
the same weights and rows by the rule of tests/golden/README.md; the losses of the first three steps must agree. PyTorch runs
operator by operator with Adam as the reference has it and in its fused form. Last line: `ratio train-cflow VALUE`, of
the sums over the levels, weighted by how often a batch of 32 pictures steps each (128, 32, 8 times).
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
    def __init__(self, channels, fused):
        self.flow = flow_torch.Flow(torch, np, channels, args.condition, args.blocks, True)
        pool = POOL * args.rows
        self.x, self.cond = flow_torch.rows(torch, np, "x", pool, channels), flow_torch.rows(torch, np, "cond", pool, args.condition)
        self.row = torch.arange(args.rows) * 7 % pool
        self.optimizer = torch.optim.Adam(self.flow.parameters(), lr=2e-4, fused=fused)

    def __call__(self):
        self.optimizer.zero_grad()
        loss = self.flow.loss(self.x[self.row], self.cond[self.row])
        self.loss = loss.item()
        loss.backward()
        self.optimizer.step()


def work(channels):
    """Multiplications and additions of one step."""
    inside = channels / 2 + args.condition
    return 2 * args.rows * args.blocks * (3 * (2 * inside**2 + 2 * inside * channels) + 2 * channels**2)


def compare(channels):
    server = peer.Served(args.bin / "bench-flow", "--channels", channels, "--rows", args.rows, "--blocks", args.blocks, "--condition", args.condition,
                         "--threads", args.threads, "--mode", "step")
    sides = {"torch eager": Step(channels, False), "torch eager, fused Adam": Step(channels, True)}
    for name, step in sides.items():
        for i in range(args.steps):
            step()
            ours = server.facts[f"loss{i}"]
            peer.check(abs(step.loss - ours) <= BOUND * abs(ours), f"loss of step {i + 1} of {name}: {step.loss}, ours {ours}")
    product, flops = peer.matmul(torch)
    times = peer.alternate({**sides, "adze": server, "product": product}, args.rounds)
    rate = flops / min(times.pop("product"))
    server.close()
    peer.table(f"a step of {args.rows} rows of {channels}, {args.blocks} blocks: {1e-9 * work(channels):.1f} GFLOP", times, work(channels) / rate,
               f"its FLOPs at torch's product, {1e-9 * rate:.0f} GFLOP/s")
    return times


def main():
    print(f"CFlow, {args.threads} threads; peer: torch {torch.__version__}")
    ours = theirs = 0.0
    for channels in map(int, args.channels):
        times = compare(channels)
        often = 32 * (16384 // channels) ** 2 // args.rows  # places of a 256x256 picture at this level
        best = min(min(seconds) for name, seconds in times.items() if name != "adze")
        print(f"  {channels} channels, {often} steps a batch: torch / adze {best / min(times['adze']):.2f}")
        ours, theirs = ours + often * min(times["adze"]), theirs + often * best
    peer.ratio("train-cflow", theirs / ours)


main()
