"""compare_job_rd.py - training reverse distillation from a folder of pictures, cached features against PyTorch without.

--precision is adze's; PyTorch's is float32. The same job on both sides (bench/job.py): resnet18, batch 16, every epoch all
pictures shuffled, the incomplete batch left out. The step itself is checked by compare_train_rd.py. --rounds below 5 are
raised to 5, so that a quick look needs --pictures, --epochs or --size. Last line: `ratio job-rd VALUE`, of one epoch.
"""
import peer

args = peer.start(__doc__, batch=16, layouts=["channels-last"], size=256, backbone="resnet18", epochs=3, pictures=0, workers=4,
                  data="datasets/samples/pcb/train/good", precision="f32")

import torch

import job
import rd_torch

torch.set_num_threads(args.threads)
LAYOUTS = {"channels-last": torch.channels_last, "nchw": torch.contiguous_format}


def make(layout):
    teacher = lambda name, shape: None if name.startswith(("mff_oce", "net_s")) else job.frozen_weight(name, shape)
    net = rd_torch.build(args.backbone, teacher).to(memory_format=layout)
    optimizer = rd_torch.optimizer(net)
    return lambda x: rd_torch.step(net, net.teacher_features(x), optimizer)


if __name__ == "__main__":
    job.compare(args, "rd", "RD", {f"torch eager, {name}, no cache": (make, LAYOUTS[name]) for name in args.layouts})
