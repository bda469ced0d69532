"""Fully connected residual networks with BatchNorm on dense layers."""

from resjax.models.resnet import ResNet


class ResidualMLP(ResNet):
    """A `ResNet` of dense layers, h = activation(BN(W x + b)), on flattened images `[N, ...]`.

    Built by `build_model` for `model.name = "mlp"`: a dense layer, blocks of one or two
    (`model.block` single or basic) with any shortcut and order, a head. The bias b is left out
    under a normalisation, which subtracts it (Ioffe and Szegedy 2015, section 3.2), unless
    `model.bias` is "always".
    """
