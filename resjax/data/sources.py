"""Sources: where the images come from, by name."""

import dataclasses
import functools
import hashlib

import numpy as np


@dataclasses.dataclass(frozen=True)
class Split:
    """Images `[n, H, W, C]` in the units of the files, and labels `[n]` int32."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set in memory.

    Attributes:
      train, test: the two splits.
      class_names: one name for each label.
      fingerprint: SHA-256 over the shapes and contents of both splits, in order.
    """

    train: Split
    test: Split
    class_names: tuple[str, ...]

    @functools.cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for array in (split.images, split.labels):
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@functools.cache
def digits() -> Source:
    """The 1,797 scans of handwritten digits that ship with scikit-learn.

    They are the test set of Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits.
    Grey images `[8, 8, 1]` with values 0 to 16. The split is fixed and stratified: 1,437 images to
    train and 360 to test.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = data.images.astype(np.uint8)[..., None]
    labels = data.target.astype(np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=360, stratify=labels, random_state=0
    )
    names = tuple(str(name) for name in data.target_names)
    return Source(Split(images[train], labels[train]), Split(images[test], labels[test]), names)


SOURCES = {"digits": digits}
