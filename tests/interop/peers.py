"""The frameworks that weights come from, imported so that they work beside each other.

Tests that need one are skipped where it is missing.
"""

import contextlib
import warnings

import pytest

torch = pytest.importorskip("torch", reason="the tests of weights need torch==2.13.0")

MISSING = "the tests of weights need torchvision, timm and transformers; see .ci/run"

# The wheel of torchvision on PyPI is built for CUDA, so its compiled operators do not load beside
# the CPU build of torch. Nothing here calls them, but they must have been declared.
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _name):
        _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@contextlib.contextmanager
def imported(name):
    """A framework, whose warnings are its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip(name, reason=MISSING)


with imported("torchvision") as torchvision:
    pass


def randomised(net, seed=0, gain=0.7):
    """Random parameters and running statistics, of a size that keeps signals alive.

    Scales of normalisations are about `gain`, and negative now and then: relu and the maximum of a
    window do not commute with those.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor):
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(12345)
            elif name.endswith("running_var"):
                tensor.copy_(torch.exp(0.3 * noise(tensor)))
            elif name.endswith("running_mean"):
                tensor.copy_(0.3 * noise(tensor))
            elif tensor.ndim == 1 and name.endswith("weight"):
                sign = torch.where(torch.rand(tensor.shape, generator=generator) < 0.1, -1, 1)
                tensor.copy_(sign * torch.exp(0.2 * noise(tensor)) * gain)
            elif tensor.ndim == 1:
                tensor.copy_(0.2 * noise(tensor))
            else:
                tensor.copy_(noise(tensor) * (1.5 / tensor[0].numel()) ** 0.5)
    return net.eval()


def small_torchvision(block="Bottleneck", layers=(3, 4, 6, 3), **options):
    """A torchvision net of any layers."""
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

    blocks = {"Bottleneck": Bottleneck, "BasicBlock": BasicBlock}
    return ResNet(blocks[block], list(layers), **options)


def hugging_face(**options):
    """A net of transformers, which is imported once there is a test of it, as timm is."""
    with imported("transformers") as transformers:
        return transformers.ResNetForImageClassification(transformers.ResNetConfig(**options))


def of_timm(name, **options):
    with imported("timm") as timm:
        return timm.create_model(name, **options)


class ForCifar(torch.nn.Module):
    """He et al. 2015, section 4.2, with the names of akamaster/pytorch_resnet_cifar10.

    Shortcut A subsamples and puts zero channels on both sides, B is a projection.
    """

    class Block(torch.nn.Module):
        def __init__(self, inputs, channels, stride, option):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(channels)
            self.conv2 = torch.nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            self.bn2 = torch.nn.BatchNorm2d(channels)
            self.shortcut, self.stride, self.more = None, stride, channels - inputs
            if self.more and option == "B":
                self.shortcut = torch.nn.Sequential(
                    torch.nn.Conv2d(inputs, channels, 1, stride, bias=False),
                    torch.nn.BatchNorm2d(channels),
                )

        def forward(self, x):
            y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            if self.shortcut is not None:
                return (y + self.shortcut(x)).relu()
            if self.more:
                half = self.more // 2
                x = torch.nn.functional.pad(
                    x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half)
                )
            return (y + x).relu()

    def __init__(self, blocks, option="A", classes=10):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        inputs = 16
        for stage, channels in enumerate((16, 32, 64), 1):
            members = []
            for number in range(blocks):
                stride = 2 if stage > 1 and not number else 1
                members.append(self.Block(inputs, channels, stride, option))
                inputs = channels
            setattr(self, f"layer{stage}", torch.nn.Sequential(*members))
        self.linear = torch.nn.Linear(64, classes)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))
