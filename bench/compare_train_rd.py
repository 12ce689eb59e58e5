"""compare_train_rd.py - one training step of reverse distillation (resnet18, batch 16) against PyTorch eager.

A step is the frozen teacher, fusion and decoder forward, backward, clipping and Adam. Both sides make the same weights and
pictures by the rule of tests/golden/README.md and run float32; the losses of the first three steps must agree. PyTorch
runs as NCHW and channels-last, with Adam's fused form, the fastest it has. The step without the teacher, as it is with
cached features, stands in the table on both sides. Then the step with products in bfloat16: ours beside PyTorch's autocast and
its float32 forms. Last lines: `ratio train-rd-bf16 VALUE`, of bfloat16 and all of PyTorch's, and `ratio train-rd VALUE`, of
the float32 steps with the teacher.
"""
import json
import subprocess

import peer

args = peer.start(__doc__, size=256, batch=16, backbone="resnet18", steps=3)

import numpy as np
import torch

import rd_torch

torch.set_num_threads(args.threads)
BOUND = 1e-3  # of the loss; Adam's first steps are lr * sign(gradient), so rounding shows by the second one


class Step:
    """One step per call; the loss is read, as a training log does."""

    def __init__(self, layout, cached=False, bf16=False):
        self.net = rd_torch.build(args.backbone, lambda name, shape: torch.from_numpy(peer.golden_weight(np, name, shape)))
        self.net.to(memory_format=layout)
        x = torch.from_numpy(peer.golden_unit(np, "image", args.batch * 3 * args.size**2).astype(np.float32))
        self.x = x.reshape(args.batch, 3, args.size, args.size).contiguous(memory_format=layout)
        self.optimizer = rd_torch.optimizer(self.net)
        self.features = self.net.teacher_features(self.x) if cached else None
        self.bf16 = bf16

    def __call__(self):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            features = self.features or self.net.teacher_features(self.x)
            self.loss = rd_torch.step(self.net, features, self.optimizer)


def adze(*more):
    return [args.bin / "bench-train", "--method", "rd", "--backbone", args.backbone, "--batch", args.batch, "--size", args.size,
            "--threads", args.threads, "--check", args.steps, *more]


def profile():
    """The ops of our step: their FLOPs and bytes."""
    words = [str(word) for word in adze("--json", "--repeat", 1)]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)["steps"]


def check(name, step, facts):
    for i in range(args.steps):
        step()
        ours = facts[f"loss{i}"]
        print(f"  loss of step {i + 1}: adze {ours:.7f}, {name} {step.loss:.7f}")
        peer.check(abs(ours - step.loss) <= BOUND * abs(step.loss), f"loss of step {i + 1}")


def check_bf16(name, losses, facts):
    """Both sides round, each in its own way: a first loss within 2^-7, later ones an eighth of the descent more, as in tests/golden."""
    for i in range(args.steps):
        exact = facts[f"loss{i}"]
        print(f"  loss of step {i + 1}: {name} {losses[i]:.7f}, adze in float32 {exact:.7f}")
        peer.check(abs(losses[i] - exact) <= 2**-7 * abs(exact) + abs(facts["loss0"] - exact) / 8, f"loss of step {i + 1} of {name}")


def torch_bf16(facts):
    """PyTorch's autocast, where this processor runs it."""
    step, losses = Step(torch.channels_last, bf16=True), []
    try:
        for _ in range(args.steps):
            step()
            losses.append(step.loss)
    except RuntimeError as error:
        print(f"  torch autocast does not run here: {error}")
        return {}
    check_bf16("torch autocast", losses, facts)
    return {"torch autocast bf16, channels-last": step}


def main():
    ops = profile()
    print(f"RD, {args.backbone}, {args.threads} threads; peer: torch {torch.__version__}, oneDNN inside: {torch.backends.mkldnn.is_available()}")
    server, cached = peer.Served(*adze()), peer.Served(*adze("--cached"))
    last = torch.channels_last
    sides = {
        "torch eager, NCHW": Step(torch.contiguous_format),
        "torch eager, channels-last": Step(last),
        "torch channels-last, cached": Step(last, True),
    }
    for name, step in sides.items():
        check(name, step, cached.facts if step.features else server.facts)
    bf16 = peer.Served(*adze("--precision", "bf16"))
    check_bf16("adze, bf16", [bf16.facts[f"loss{i}"] for i in range(args.steps)], server.facts)
    sides.update(torch_bf16(server.facts))
    product, product_flops = peer.matmul(torch)
    p, q = (torch.rand(2048, 2048, dtype=torch.bfloat16) for _ in range(2))
    a, b = torch.ones(1 << 26), torch.zeros(1 << 26)
    times = peer.alternate({**{name: lambda step=step: step() for name, step in sides.items()}, "adze": server, "adze, cached": cached,
                            "adze, bf16": bf16, "product": product, "product, bf16": peer.fastest(lambda: torch.mm(p, q), 5), "copy": peer.fastest(lambda: b.copy_(a), 3)}, args.rounds)
    flops_rate, copy_rate = product_flops / min(times.pop("product")), 2 * 4 * a.numel() / min(times.pop("copy"))
    bf16_rate = product_flops / min(times.pop("product, bf16"))
    for process in (server, cached, bf16):
        process.close()
    floor = lambda ops, rate=flops_rate: sum(max(op["flops"] / rate, op["bytes"] / copy_rate) for op in ops)
    what = f"op by op the longer of its FLOPs at torch's product, {1e-9 * flops_rate:.0f} GFLOP/s, and its bytes at torch's copy, {1e-9 * copy_rate:.1f} GB/s"
    short = {name: times.pop(name) for name in list(times) if "cached" in name}
    rounded = {name: times.pop(name) for name in list(times) if "bf16" in name}
    for title, part, steps in (("the whole step", times, ops), ("teacher's features given", short, [op for op in ops if op["part"] != "frozen"])):
        peer.table(f"{title}: batch {args.batch}, {args.size}x{args.size}, {1e-9 * sum(op['flops'] for op in steps):.0f} GFLOP, "
                   f"{1e-9 * sum(op['bytes'] for op in steps):.2f} GB", part, floor(steps), what)
    peer.table("the whole step, products in bfloat16", rounded, floor(ops, bf16_rate), f"the same with torch's product in bfloat16, {1e-9 * bf16_rate:.0f} GFLOP/s")
    for name in (name for name in times if name != "adze"):
        print(f"  {name} / adze: {min(times[name]) / min(times['adze']):.2f}")
    print(f"  cached, channels-last / adze: {peer.ratio_of(short, ('adze, cached',)):.2f}")
    rounded.update({name: seconds for name, seconds in times.items() if name != "adze"})
    for name in (name for name in rounded if name != "adze, bf16"):
        print(f"  {name} / adze, bf16: {min(rounded[name]) / min(rounded['adze, bf16']):.2f}")
    peer.ratio("train-rd-bf16", peer.ratio_of(rounded, ("adze, bf16",)))
    peer.ratio("train-rd", peer.ratio_of(times, ("adze",)))


if __name__ == "__main__":
    main()
