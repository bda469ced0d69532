import numpy as np
import pytest

from resjax.config import ConfigError
from resjax.data.sources import load


def test_shapes_are_balanced_coloured_and_the_same_in_every_release():
    source = load("shapes:0.5:1000")
    assert source.train.images.shape == (1000, 32, 32, 3)
    assert len(source.test) == 200
    assert set(np.bincount(source.train.labels)) == {100}
    assert len(source.class_names) == 10
    assert source.fingerprint == (
        "7242af0dbad3e9673044913a82c0a43720103dcfcc4613d317b2d5dc73affdd4"
    )


def test_no_image_is_drawn_twice():
    source = load("shapes:1:500")
    images = [*source.train.images, *source.test.images]
    assert len({image.tobytes() for image in images}) == 600


def test_the_difficulty_brings_shape_and_background_together():
    """Along the middle of a large bar against its surroundings: contrast over noise falls."""
    noise = [np.diff(load(f"shapes:{d}:100").train.images.astype(float), axis=2).std()
             for d in (0, 0.5, 1)]  # fmt: skip
    assert noise[0] < noise[1] < noise[2]
    assert len(np.unique(load("shapes:0:10").train.images[0].reshape(-1, 3), axis=0)) < 1024


@pytest.mark.parametrize("name", ["shapes:2", "shapes:", "shapes:0.5:0", "shapes:-1", "shapes:1.5"])
def test_other_difficulties_are_refused(name):
    with pytest.raises(ConfigError, match="is not shapes, shapes:DIFFICULTY from 0 to 1, or"):
        load(name)


def test_too_many_shapes_are_refused():
    with pytest.raises(ConfigError, match=r"shapes:0\.5:999999: the most are 500000 images"):
        load("shapes:0.5:999999")
