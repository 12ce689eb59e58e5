"""destseg_torch.py - DeSTSeg in PyTorch for the comparison: frozen teacher, student, segmentation network, losses, steps.

Written from the description of the method (Zhang et al., CVPR 2023) with the shapes of models/destseg_net.c for ResNet-18;
parameter names are adze's, so that both sides can draw the same weights by name.
"""
import torch
import torchvision
from torch import nn
from torch.nn import functional

EPS = 1e-12


def conv(c, o, k=3, dilation=1):
    return nn.Conv2d(c, o, k, 1, dilation * (k // 2), dilation, bias=False)


class Block(nn.Module):
    def __init__(self, c, o):
        super().__init__()
        self.conv1, self.bn1 = conv(c, o), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = conv(o, o), nn.BatchNorm2d(o)
        self.downsample = nn.Sequential(conv(c, o, 1), nn.BatchNorm2d(o)) if c != o else None

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += self.downsample(x) if self.downsample else x
        return functional.relu(y, inplace=True)


def blocks(c, o):
    return nn.Sequential(Block(c, o), Block(o, o))


class ConvNorm(nn.Module):
    def __init__(self, c, o, k=3, dilation=1):
        super().__init__()
        self.conv, self.norm = conv(c, o, k, dilation), nn.BatchNorm2d(o)

    def forward(self, x):
        return functional.relu(self.norm(self.conv(x)), inplace=True)


class Aspp(nn.Module):
    def __init__(self, c, o):
        super().__init__()
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvNorm(c, o, 1))
        self.aspp_feature_extractors = nn.ModuleList([pool, *(ConvNorm(c, o, 3, d) for d in (6, 12, 18))])
        self.aspp_fusion_layer = ConvNorm(4 * o, o)

    def forward(self, x):
        wide = [resize(branch(x), x.shape[2:]) for branch in self.aspp_feature_extractors]
        return self.aspp_fusion_layer(torch.cat(wide, 1))


class Segmentation(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.res = blocks(c, 256)
        self.head = nn.Sequential(Aspp(256, 256), conv(256, 256), nn.BatchNorm2d(256), nn.ReLU(inplace=True), nn.Conv2d(256, 1, 1))

    def forward(self, x):
        return torch.sigmoid(self.head(self.res(x)))


def resize(x, size):
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def unit(x):
    return x / (torch.sqrt((x * x).sum(1, keepdim=True)) + EPS)


def stages(net, x, last):
    """The outputs of layers 1 to `last`."""
    x = net.maxpool(functional.relu(net.bn1(net.conv1(x)), inplace=True))
    out = []
    for k in range(1, last + 1):
        x = getattr(net, f"layer{k}")(x)
        out.append(x)
    return out


class Destseg(nn.Module):
    def __init__(self):
        super().__init__()
        self.net_t, self.net_s = (torchvision.models.resnet18(weights=None) for _ in range(2))
        del self.net_t.layer4, self.net_t.fc, self.net_s.fc
        self.student_net = nn.ModuleDict({f"decoder_layer{k}": blocks(c, o) for k, c, o in ((4, 512, 512), (3, 512, 256), (2, 256, 128), (1, 128, 64))})
        self.segmentation_net = Segmentation(448)

    @torch.no_grad()
    def teacher(self, x):
        return stages(self.net_t, x, 3)

    def student(self, x):
        taps = stages(self.net_s, x, 4)
        y, out = taps[3], []
        for k in (4, 3, 2, 1):
            y = self.student_net[f"decoder_layer{k}"](resize(y, taps[k - 1].shape[2:]) if k < 4 else y)
            out.append(y)
        return out[:0:-1]

    @torch.no_grad()
    def product(self, x):
        parts = [-unit(t) * unit(b) for t, b in zip(self.teacher(x), self.student(x))]
        return torch.cat([resize(p, parts[0].shape[2:]) for p in parts], 1)

    def trained(self, phase):
        if phase == 1:
            return [*self.net_s.parameters(), *self.student_net.parameters()]
        return [*self.segmentation_net.parameters()]


def build(weight, phase):
    """weight(name, shape) gives each tensor. The teacher is frozen; the part that the phase trains is in train mode."""
    net = Destseg().eval()
    for part in (net.net_s, net.student_net) if phase == 1 else (net.segmentation_net,):
        part.train()
    for p in net.parameters():
        p.requires_grad_(False)
    for p in net.trained(phase):
        p.requires_grad_(True)
    for name, tensor in net.state_dict().items():
        if tensor.dim() > 0:
            tensor.copy_(weight(name if name.startswith("net_") else "destseg." + name, tuple(tensor.shape)))
    return net


def optimizer(net, phase):
    sgd = lambda groups, decay: torch.optim.SGD(groups, lr=0.4, momentum=0.9, weight_decay=decay, fused=True)
    if phase == 1:
        params = net.trained(1)
        return sgd([{"params": [p for p in params if p.dim() > 1]}, {"params": [p for p in params if p.dim() == 1], "weight_decay": 0.0}], 1e-4)
    seg = net.segmentation_net
    return sgd([{"params": seg.res.parameters(), "lr": 0.1}, {"params": seg.head.parameters(), "lr": 0.01}], 1e-4)


def student_loss(net, features, x):
    return sum((1 - (unit(b) * unit(t)).sum(1)).mean((1, 2)).sum() for t, b in zip(features, net.student(x)))


def segmentation_loss(net, x, mask):
    p = net.segmentation_net(net.product(x))
    truth = p * mask + (1 - p) * (1 - mask)
    return (p - mask).abs().mean() + (functional.binary_cross_entropy(p, mask, reduction="none") * (1 - truth) ** 4).mean()


def step(net, loss, optimizer, phase):
    """One step on a loss that was just computed; the loss as a number."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.trained(phase), 5.0)
    optimizer.step()
    return loss.item()
