"""compare_forward.py - Wide-ResNet-50-2 to layer3 against PyTorch: eager, channels-last, channels-last frozen.

Both sides make the same weights and pictures by the rule of tests/golden/README.md and run float32 (without TF32). layer2 and
layer3 are compared first. --device cuda: both on the GPU. Last line: `ratio forward VALUE`, the smaller of the ratios at batch 1
and batch 8.
"""
import pathlib
import tempfile

import peer

args = peer.start(__doc__, size=256, backbone="wide_resnet50_2", precision="f32", device="cpu")

import numpy as np
import torch
import torchvision

torch.set_num_threads(args.threads)
torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
TAPS = ("layer2", "layer3")


class ToLayer3(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.stem = torch.nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1)
        self.layer2, self.layer3 = net.layer2, net.layer3

    def forward(self, x):
        layer2 = self.layer2(self.stem(x))
        return layer2, self.layer3(layer2)


def build():
    """A fresh network with the rule's weights."""
    net = getattr(torchvision.models, args.backbone)(weights=None)
    for name, tensor in net.state_dict().items():
        if tensor.dim() > 0 and not name.startswith(("layer4", "fc")):
            tensor.copy_(torch.from_numpy(peer.golden_weight(np, name, tuple(tensor.shape))))
    return ToLayer3(net).eval().to(args.device)


def frozen(net, x):
    return torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x)))


def done(_):
    """Waits for the device; the time is taken outside."""
    peer.wait(torch, args.device)


def adze(batch, *more):
    return peer.Served(args.bin / "bench-forward", "--backbone", args.backbone, "--batch", batch, "--size", args.size,
                       "--threads", args.threads, "--precision", args.precision, "--device", args.device, *more)


def check(batch, want, folder):
    """Every element of both taps; NHWC float32 in the program's file, one after the other."""
    path = folder / "taps.f32"
    server = adze(batch, "--check", path)
    got, begin = np.fromfile(path, np.float32), 0
    bound = {"f32": 2e-5, "bf16": 5e-2}[args.precision]  # of the largest value: rounding of 40 layers
    for name, tensor in zip(TAPS, want):
        n, c, h, w = tensor.shape
        ours = got[begin : begin + tensor.numel()].reshape(n, h, w, c).transpose(0, 3, 1, 2)
        begin += tensor.numel()
        error, largest = np.abs(ours - tensor.cpu().numpy()).max(), float(tensor.abs().max())
        peer.check(error <= bound * largest, f"{name}: {error:.3g} off, largest value {largest:.3g}")
    peer.check(begin == got.size, "number of elements")
    return server


def compare(batch, nets, folder):
    x = torch.from_numpy(peer.golden_unit(np, "image", batch * 3 * args.size**2).astype(np.float32))
    x = x.reshape(batch, 3, args.size, args.size).to(args.device)
    x_last = x.contiguous(memory_format=torch.channels_last)
    server = check(batch, nets["eager"](x), folder)
    jit = frozen(nets["channels-last"], x_last)
    jit(x_last), jit(x_last)
    product, product_flops = peer.matmul(torch, args.device)
    times = peer.alternate(
        {
            "torch eager, NCHW": lambda: done(nets["eager"](x)),
            "torch eager, channels-last": lambda: done(nets["channels-last"](x_last)),
            "torch frozen, channels-last": lambda: done(jit(x_last)),
            "adze": server,
            "floor": product,
        },
        args.rounds,
    )
    flops, rate = server.facts["flops"], product_flops / min(times.pop("floor"))
    server.close()
    peer.table(f"batch {batch}, {args.size}x{args.size}, {1e-9 * flops:.1f} GFLOP, {args.precision}", times, flops / rate,
               f"torch's matrix product, {1e-9 * rate:.0f} GFLOP/s in f32")
    value = peer.ratio_of(times, ("adze",))
    print(f"  fastest peer / adze: {value:.2f}")
    return value


def main():
    print(f"{args.backbone} to layer3, {args.threads} threads; peer: torch {torch.__version__}, oneDNN inside: "
          f"{torch.backends.mkldnn.is_available()}")
    nets = {"eager": build(), "channels-last": build().to(memory_format=torch.channels_last)}
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        ratios = [compare(batch, nets, pathlib.Path(folder)) for batch in (1, 8)]
    peer.ratio("forward", min(ratios))


if __name__ == "__main__":
    main()
