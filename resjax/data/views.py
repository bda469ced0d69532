"""Views of images that a config asks for, and the shape of the images that its network is given."""

from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from resjax.data.source import Source, Split

if TYPE_CHECKING:
    from resjax.data.random_crop import RandomCrop
    from resjax.data.transforms import CentreCrop


def image_shape(data: ConfigDict, source: Source) -> tuple[int, int, int]:
    """Shape `[H, W, C]` of the images that the network is given."""
    train = source.train
    if isinstance(train, Split):
        return train.images.shape[1:]
    return (data.size, data.size, train.channels)


def training_view(data: ConfigDict) -> "RandomCrop":
    """View of streamed images for training, which needs OpenCV.

    Raises:
      ValueError: for numbers that make no view.
    """
    from resjax.data.random_crop import RandomCrop

    return RandomCrop(
        size=data.size,
        area=tuple(data.area),
        ratio=tuple(data.ratio),
        tries=data.tries,
        flip=0.5 if data.flip else 0.0,
        brightness=data.brightness,
        contrast=data.contrast,
        saturation=data.saturation,
        exif=data.exif,
    )


def evaluation_view(data: ConfigDict) -> "CentreCrop":
    """View of streamed images for evaluation.

    Raises:
      ValueError: for numbers that make no view.
    """
    from resjax.data.transforms import CentreCrop

    return CentreCrop(data.size, data.resize, data.interpolation, data.exif)
