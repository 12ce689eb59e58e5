"""compare_train_destseg.py - a training step of DeSTSeg (resnet18, batch 8), each phase, against PyTorch eager.

A step of phase 1 is the teacher on clean pictures (given features: a second row on both sides, as it is with a cache) and the
student forward, backward, clipping and SGD; of phase 2 teacher and resting student forward, the segmentation network forward and
backward, clipping and SGD. Both sides make the same weights, pictures and masks by the rule of tests/golden/README.md; the
losses of the first steps must agree. PyTorch runs as NCHW and channels-last, with SGD's fused form; both sides also with
operands rounded to bfloat16, PyTorch by its autocast. Last lines, of the epochs of both phases, one fifth phase 1 with given
features and four fifths phase 2, PyTorch's fastest form over ours: `ratio train-destseg-bf16 VALUE`, of bfloat16 and all of PyTorch's,
and `ratio train-destseg VALUE`, of the float32 forms.
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
BOUND_BF16 = 2**-7  # of the first step's loss, as tests/golden/README.md has it


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

    def __init__(self, phase, layout, cached=False, bf16=False):
        self.phase, self.bf16 = phase, bf16
        self.net = destseg_torch.build(weight, phase).to(memory_format=layout)
        self.clean, self.x = (picture(name).contiguous(memory_format=layout) for name in ("image", "augmented"))
        self.mask = (picture("mask", 1, args.size // 4) > 0.5).float()
        self.optimizer = destseg_torch.optimizer(self.net, phase)
        self.features = self.net.teacher(self.clean) if cached else None

    def __call__(self):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
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


def check_bf16(name, loss, facts):
    peer.check(abs(loss - facts["loss0"]) <= BOUND_BF16 * abs(facts["loss0"]), f"first loss of {name}: {loss}, in float32 {facts['loss0']}")


def torch_bf16(phase, cached, facts):
    """PyTorch's autocast, where this processor runs it."""
    try:
        step = Step(phase, torch.channels_last, cached, bf16=True)
        step()
    except RuntimeError as error:
        print(f"  torch autocast does not run here: {error}")
        return {}
    check_bf16("torch autocast bf16", step.loss, facts)
    return {"torch autocast bf16": step}


def compare(title, phase, *more):
    """Seconds of {torch f32, torch, adze, adze, bf16}, each the fastest."""
    cached = "--cached" in more
    served = {"adze": peer.Served(*adze(phase, *more)), "adze, bf16": peer.Served(*adze(phase, "--precision", "bf16", *more))}
    exact = served["adze"].facts
    sides = {name: Step(phase, layout, cached) for name, layout in (("torch eager, NCHW", torch.contiguous_format), ("torch eager, channels-last", torch.channels_last))}
    for name, step in sides.items():
        check(name, step, exact)
    check_bf16("adze, bf16", served["adze, bf16"].facts["loss0"], exact)
    sides.update(torch_bf16(phase, cached, exact))
    product, product_flops = peer.matmul(torch)
    a, b = torch.ones(1 << 26), torch.zeros(1 << 26)
    times = peer.alternate({**{name: lambda step=step: step() for name, step in sides.items()}, **served, "product": product,
                            "copy": peer.fastest(lambda: b.copy_(a), 3)}, args.rounds)
    for server in served.values():
        server.close()
    flops_rate, copy_rate = product_flops / min(times.pop("product")), 2 * 4 * a.numel() / min(times.pop("copy"))
    ops = profile(phase, *more)
    floor = sum(max(op["flops"] / flops_rate, op["bytes"] / copy_rate) for op in ops)
    what = f"op by op the longer of its FLOPs at torch's product, {1e-9 * flops_rate:.0f} GFLOP/s, and its bytes at torch's copy, {1e-9 * copy_rate:.1f} GB/s"
    peer.table(f"{title}: batch {args.batch}, {args.size}x{args.size}, {1e-9 * sum(op['flops'] for op in ops):.0f} GFLOP", times, floor, what)
    fastest = lambda start: min(min(seconds) for name, seconds in times.items() if name.startswith(start))
    best = {"torch f32": fastest("torch eager"), "torch": fastest("torch"), "adze": min(times["adze"]), "adze, bf16": min(times["adze, bf16"])}
    print(f"  {title}: torch in float32 / adze {best['torch f32'] / best['adze']:.2f}, / adze in bf16 {best['torch f32'] / best['adze, bf16']:.2f}; "
          f"the fastest of torch / adze in bf16 {best['torch'] / best['adze, bf16']:.2f}")
    return best


def main():
    print(f"DeSTSeg, resnet18, {args.threads} threads; peer: torch {torch.__version__}, oneDNN inside: {torch.backends.mkldnn.is_available()}")
    compare("phase 1", 1)
    cached = compare("phase 1, teacher's features given", 1, "--cached")
    second = compare("phase 2", 2)
    total = {name: 0.2 * cached[name] + 0.8 * second[name] for name in cached}
    print(f"  both phases: torch in float32 / adze in bf16 {total['torch f32'] / total['adze, bf16']:.2f}")
    peer.ratio("train-destseg-bf16", total["torch"] / total["adze, bf16"])
    peer.ratio("train-destseg", total["torch f32"] / total["adze"])


if __name__ == "__main__":
    main()
