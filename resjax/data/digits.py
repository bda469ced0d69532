"""The handwritten digits of scikit-learn: real images that need no download."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resjax.data.source import Source, Split
from resjax.files import replacing
from resjax.process import cache_directory

FINGERPRINT = "4d37e6a6338bd170cabb51e76d53992ccfb10792a67b4c71663116bb1464e7dc"
"""Fingerprint of the digits as scikit-learn reads and splits them."""


def digits() -> Source:
    """The 1,797 scans of handwritten digits that ship with scikit-learn.

    They are the test set of Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits.
    Grey images `[8, 8, 1]` with values 0 to 16. The split is fixed and stratified: 1,437 images to
    train and 360 to test.

    They are cached in `cache_directory()`, as scikit-learn takes a second to import.
    """
    path = cache_directory() / f"digits-{FINGERPRINT[:8]}.npz"
    source = _kept(path)
    if source is None:
        arrays = _arrays()
        source = _source(arrays)
        with contextlib.suppress(OSError):  # of a home that cannot be written to
            _keep(arrays, path)
    return source


def _arrays() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = data.images.astype(np.uint8)[..., None]
    labels = data.target.astype(np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=360, stratify=labels, random_state=0
    )
    return {
        "train_images": images[train],
        "train_labels": labels[train],
        "test_images": images[test],
        "test_labels": labels[test],
    }


def _source(arrays: Mapping[str, np.ndarray]) -> Source:
    train = Split(arrays["train_images"], arrays["train_labels"])
    test = Split(arrays["test_images"], arrays["test_labels"])
    return Source(train, test, class_names=tuple("0123456789"))


def _kept(path: Path) -> Source | None:
    """The digits in the cached file; None if the file is missing, damaged or holds other data."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            source = _source(arrays)
    except Exception:  # a damaged file can raise any of a dozen
        return None
    return source if source.fingerprint == FINGERPRINT else None


def _keep(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)
