"""compare_job_simplenet.py - training SimpleNet from a folder of pictures, cached features against PyTorch without.

--precision is adze's; PyTorch's is float32. The same job on both sides (bench/job.py): wide_resnet50_2, batch 32, every
epoch all pictures shuffled, the incomplete batch left out. PyTorch runs as the reference does, with a backward per
optimiser, and with one for both. The step itself is checked by compare_train_simplenet.py. The benchmark's 100 epochs are 99
of those that are timed here, and one. --rounds below 5 are raised to 5, so that a quick look needs --pictures, --epochs or
--size. Last line: `ratio job-simplenet VALUE`, of one epoch.
"""
import peer

args = peer.start(__doc__, batch=32, size=256, backbone="wide_resnet50_2", epochs=3, pictures=32, workers=4,
                  data="datasets/samples/pcb/train/good", precision="f32")

import torch

import job
import simplenet_torch

torch.set_num_threads(args.threads)


def maker(passes):
    def make(layout):
        net = simplenet_torch.build(args.backbone, job.frozen_weight, trained=False).to(memory_format=layout)
        step = simplenet_torch.Trainer(net, passes)
        return lambda x: step(net.rows(x))

    return make


if __name__ == "__main__":
    job.compare(args, "simplenet", "SimpleNet", {"torch as the reference, no cache": (maker(2), torch.contiguous_format),
                                                 "torch, one backward, channels-last": (maker(1), torch.channels_last)},
                falls=False)  # it rises first, until the discriminator has found its scale
