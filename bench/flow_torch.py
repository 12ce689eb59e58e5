"""flow_torch.py - CFlow's decoder in PyTorch, operator by operator as FrEIA's AllInOneBlock runs it (version 0.2)."""
import peer

GLOBAL_SCALE = 9.98650


class Block:
    """One conditional coupling block; `tensor(name, shape)` gives the weights."""

    def __init__(self, torch, prefix, channels, condition, tensor):
        self.torch, self.half = torch, channels // 2
        inside = self.half + condition
        self.w1, self.b1 = tensor(f"{prefix}.subnet.0.weight", (2 * inside, inside)), tensor(f"{prefix}.subnet.0.bias", (2 * inside,))
        self.w2, self.b2 = tensor(f"{prefix}.subnet.2.weight", (channels, 2 * inside)), tensor(f"{prefix}.subnet.2.bias", (channels,))
        self.scale, self.offset = torch.full((1, channels), GLOBAL_SCALE), torch.zeros(1, channels)
        self.w_perm = tensor(f"{prefix}.w_perm", (channels, channels))

    def parameters(self):
        return [self.w1, self.b1, self.w2, self.b2, self.scale, self.offset]

    def __call__(self, x, cond):
        torch, linear = self.torch, self.torch.nn.functional.linear
        x1, x2 = torch.split(x, [self.half, x.shape[1] - self.half], dim=1)
        a = linear(torch.relu(linear(torch.cat([x1, cond], 1), self.w1, self.b1)), self.w2, self.b2) * 0.1
        j = 1.9 * torch.tanh(a[:, : self.half])
        x2 = x2 * torch.exp(j) + a[:, self.half :]
        scale = 0.1 * torch.nn.functional.softplus(self.scale, beta=0.5)
        out = linear(torch.cat((x1, x2), 1) * scale + self.offset, self.w_perm)
        return out, j.sum(dim=1) + torch.log(scale).sum()


class Flow:
    """`blocks` of them, and the loss of CFLOW-AD."""

    def __init__(self, torch, numpy, channels, condition, blocks, train):
        def tensor(name, shape):
            return torch.from_numpy(peer.golden_weight(numpy, name, shape))

        self.torch = torch
        self.blocks = [Block(torch, f"decoders.0.module_list.{k}", channels, condition, tensor) for k in range(blocks)]
        for p in self.parameters():
            p.requires_grad_(train)

    def parameters(self):
        return [p for block in self.blocks for p in block.parameters()]

    def loss(self, x, cond):
        logdet = 0
        for block in self.blocks:
            x, change = block(x, cond)
            logdet = logdet + change
        channels = x.shape[1]
        logp = channels * -0.9189385332046727 - 0.5 * self.torch.sum(x**2, 1) + logdet
        return -self.torch.nn.functional.logsigmoid(logp / channels).mean()


def rows(torch, numpy, name, count, width):
    return torch.from_numpy(peer.golden_unit(numpy, name, count * width).astype(numpy.float32)).reshape(count, width)
