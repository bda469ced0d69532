"""Small sets that TFDS writes as ArrayRecord without TensorFlow, from images that are encoded."""

import io
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def png(number, channels=3):
    pixels = np.random.default_rng(number).integers(0, 256, (8, 6, channels), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "png")
    return file.getvalue()


class Tiny(tfds.core.GeneratorBasedBuilder):
    """Three classes; 600 images to train on, in several files; 30 to test on."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES: ClassVar = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(8, 6, 3)),
        "label": tfds.features.ClassLabel(names=["ant", "cat", "dog"]),
    }
    SPLITS: ClassVar = {"train": 600, "test": 30}
    SUPERVISED = ("image", "label")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(self.FEATURES),
            supervised_keys=self.SUPERVISED,
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name) for name in self.SPLITS}

    def _generate_examples(self, name):
        for number in range(self.SPLITS[name]):
            yield number, self.example(name, number)

    def example(self, name, number):
        image = io.BytesIO(png(number, self.FEATURES["image"].shape[-1]))
        return {"id": f"{name}{number}", "image": image, "label": number % 3}


def write(builder_class, data_dir, file_format="array_record", **options):
    """Prepares a set, in files of some 64 KiB; returns its directory."""
    builder = builder_class(data_dir=data_dir, file_format=file_format, **options)
    config = tfds.download.DownloadConfig(
        try_download_gcs=False, num_shards=3 if "train" in builder_class.SPLITS else None
    )
    builder.download_and_prepare(download_config=config)
    return builder.data_path
