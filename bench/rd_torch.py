"""rd_torch.py - reverse distillation in PyTorch for the comparisons: teacher, fusion and bottleneck, decoder, loss, step.

Written from the description of the method (Deng and Li, CVPR 2022) with the shapes of models/rd_net.c for basic-block
teachers; parameter names are adze's, so that both sides can draw the same weights by name.
"""
import torch
import torchvision
from torch import nn
from torch.nn import functional

BLOCKS = {"resnet18": (2, (2, 2, 2)), "resnet34": (3, (3, 4, 6))}  # of the bottleneck and of the decoder's stages


def conv(c, o, stride=1, k=3):
    return nn.Conv2d(c, o, k, stride, k // 2, bias=False)


def grow(c, o):
    return nn.ConvTranspose2d(c, o, 2, 2, bias=False)


class Block(nn.Module):
    """Two convolutions and a shortcut; a name for the shortcut's parameters where it has some."""

    def __init__(self, first, c, o, shortcut=None, name=None):
        super().__init__()
        self.conv1, self.bn1 = first, nn.BatchNorm2d(o)
        self.conv2, self.bn2 = conv(o, o), nn.BatchNorm2d(o)
        self.name = name
        if name:
            self.add_module(name, nn.Sequential(shortcut, nn.BatchNorm2d(o)))

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += getattr(self, self.name)(x) if self.name else x
        return functional.relu(y, inplace=True)


class Fusion(nn.Module):
    """Three levels brought to the deepest one's size, joined, and squeezed into the code."""

    def __init__(self, blocks):
        super().__init__()
        self.conv1, self.bn1 = conv(64, 128, 2), nn.BatchNorm2d(128)
        self.conv2, self.bn2 = conv(128, 256, 2), nn.BatchNorm2d(256)
        self.conv3, self.bn3 = conv(128, 256, 2), nn.BatchNorm2d(256)
        first = Block(conv(768, 512, 2), 768, 512, conv(768, 512, 2, 1), "downsample")
        self.bn_layer = nn.Sequential(first, *(Block(conv(512, 512), 512, 512) for _ in range(blocks - 1)))

    def forward(self, t):
        one = functional.relu(self.bn1(self.conv1(t[0])), inplace=True)
        one = functional.relu(self.bn2(self.conv2(one)), inplace=True)
        two = functional.relu(self.bn3(self.conv3(t[1])), inplace=True)
        return self.bn_layer(torch.cat([one, two, t[2]], 1))


class Decoder(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        c = 512
        for stage, count in enumerate(blocks, 1):
            o = 512 >> stage
            first = Block(grow(c, o), c, o, grow(c, o), "upsample")
            self.add_module(f"layer{stage}", nn.Sequential(first, *(Block(conv(o, o), o, o) for _ in range(count - 1))))
            c = o

    def forward(self, x):
        three = self.layer1(x)
        two = self.layer2(three)
        return self.layer3(two), two, three


class ReverseDistillation(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        oce, decoder = BLOCKS[backbone]
        net = getattr(torchvision.models, backbone)(weights=None)
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.teacher, self.mff_oce, self.net_s = net, Fusion(oce), Decoder(decoder)
        del net.layer4, net.fc

    def trained(self):
        return [*self.mff_oce.parameters(), *self.net_s.parameters()]

    @torch.no_grad()
    def teacher_features(self, x):
        one = self.teacher.layer1(self.stem(x))
        two = self.teacher.layer2(one)
        return one, two, self.teacher.layer3(two)

    def forward(self, features):
        return self.net_s(self.mff_oce(features))


def build(backbone, weight):
    """Teacher in eval mode, the rest in train mode; weight(name, shape) gives each tensor, or None for the
    method's own start: normal by fan-out, PyTorch's for transposed convolutions."""
    net = ReverseDistillation(backbone).train()
    net.teacher.eval()
    net.stem.eval()
    for p in net.teacher.parameters():
        p.requires_grad_(False)
    for part in (net.mff_oce, net.net_s):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for name, tensor in net.state_dict().items():
        value = weight(name.removeprefix("teacher."), tuple(tensor.shape)) if not name.startswith("stem.") and tensor.dim() > 0 else None
        if value is not None:
            tensor.copy_(value)
    return net


def optimizer(net):
    return torch.optim.Adam(net.trained(), lr=0.005, betas=(0.5, 0.999), eps=1e-8, fused=True)


def step(net, features, optimizer):
    """One step on the teacher's features; the loss as a number."""
    loss = 0
    for t, s in zip(features, net(features)):
        # The flattened maps in the order in which they lie: a cosine does not depend on it.
        flat = (lambda m: m.permute(0, 2, 3, 1).flatten(1)) if t.is_contiguous(memory_format=torch.channels_last) else (lambda m: m.flatten(1))
        loss = loss + (1 - functional.cosine_similarity(flat(t), flat(s))).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.trained(), 5.0)
    optimizer.step()
    return loss.item()
