"""simplenet_torch.py - SimpleNet in PyTorch for the comparisons: frozen backbone, patch features, projection, discriminator, step.

Written from the description of the method (Liu et al., CVPR 2023) with the parameter names of adze, so that both sides can
draw the same weights by name. `passes` 2 is how the reference trains: one backward per optimiser over the same graph.
"""
import torch
import torchvision
from torch import nn
from torch.nn import functional

PROJECTION, DISCRIMINATOR = "net_simplenet.pre_projection.", "net_simplenet.discriminator."


def adaptive_mean(x, n):
    """(rows, m) -> (rows, n)"""
    return functional.adaptive_avg_pool1d(x.unsqueeze(1), n).squeeze(1)


class SimpleNet(nn.Module):
    def __init__(self, backbone, dim=1536, hidden=1024):
        super().__init__()
        self.dim = dim
        self.backbone = getattr(torchvision.models, backbone)(weights=None)
        del self.backbone.layer4, self.backbone.fc
        self.projection = nn.Linear(dim, dim)
        self.first, self.norm, self.tail = nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 1, bias=False)

    def named(self):
        """Trained tensors and statistics by adze's names."""
        pairs = [(PROJECTION + "layers.0fc.", self.projection), (DISCRIMINATOR + "body.block1.0.", self.first),
                 (DISCRIMINATOR + "body.block1.1.", self.norm), (DISCRIMINATOR + "tail.", self.tail)]
        return {head + name: tensor for head, module in pairs for name, tensor in module.state_dict().items() if tensor.dim() > 0}

    @torch.no_grad()
    def rows(self, x):
        """Pictures -> patch features, in the chain of operations of the reference."""
        net = self.backbone
        two = net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x))))))
        levels, (h, w) = (two, net.layer3(two)), two.shape[2:]
        parts = []
        for level in levels:
            b, c = level.shape[:2]
            patches = functional.unfold(level, 3, padding=1).reshape(b, c * 9, *level.shape[2:])
            if level.shape[2:] != two.shape[2:]:
                patches = functional.interpolate(patches, (h, w), mode="bilinear", align_corners=False)
            parts.append(adaptive_mean(patches.permute(0, 2, 3, 1).reshape(b * h * w, c * 9), self.dim))
        return adaptive_mean(torch.cat(parts, 1), self.dim)

    def forward(self, rows, deviation):
        f = self.projection(rows)
        f = torch.cat([f, f + torch.normal(0.0, deviation, f.shape) if deviation > 0 else f])
        return self.tail(functional.leaky_relu(self.norm(self.first(f)), 0.2)).chunk(2)

    def discriminator(self):
        return [*self.first.parameters(), *self.norm.parameters(), *self.tail.parameters()]


def build(backbone, weight, trained=True):
    """Backbone in eval mode, the rest in train mode; weight(name, shape) gives the tensors, with `trained` False only the frozen ones."""
    net = SimpleNet(backbone).train()
    net.backbone.eval()
    for p in net.backbone.parameters():
        p.requires_grad_(False)
    for name, tensor in net.backbone.state_dict().items():
        if tensor.dim() > 0:
            tensor.copy_(weight(name, tuple(tensor.shape)))
    with torch.no_grad():
        for linear in (net.projection, net.first, net.tail):
            nn.init.xavier_normal_(linear.weight)
        if trained:
            for name, tensor in net.named().items():
                if not name.endswith(("running_mean", "running_var")):
                    tensor.copy_(weight(name, tuple(tensor.shape)))
    return net


class Trainer:
    """Both optimisers with the reference's constants, in PyTorch's fused form."""

    def __init__(self, net, passes=1, deviation=0.015):
        self.net, self.passes, self.deviation = net, passes, deviation
        groups = lambda params, decay: [{"params": [p for p in params if p.dim() > 1], "weight_decay": decay},
                                        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0}]
        self.parts = [([*net.projection.parameters()], torch.optim.AdamW, 1e-4, 0.01), (net.discriminator(), torch.optim.Adam, 2e-4, 1e-5)]
        self.optimizers = [kind(groups(params, decay), lr=lr, fused=True) for params, kind, lr, decay in self.parts]

    def __call__(self, rows):
        good, noisy = self.net(rows, self.deviation)
        loss = torch.clip(0.5 - good, min=0).mean() + torch.clip(0.5 + noisy, min=0).mean()
        if self.passes == 1:
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
        for i, ((params, *_), optimizer) in enumerate(zip(self.parts, self.optimizers)):
            if self.passes == 2:  # as the reference: each pass makes all gradients, one part's are new
                optimizer.zero_grad(set_to_none=True)
                loss.backward(retain_graph=i == 0)
            torch.nn.utils.clip_grad_norm_(params, 5.0)
            optimizer.step()
        return loss.item()
