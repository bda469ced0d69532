"""Images per second that resjax makes ready to train on, beside those of `tf.data`.

    python -m tests.benchmarks.input           # decode, random crop to 224 and flip
    python -m tests.benchmarks.input decoders  # only to decode, by what there is

The images are like photographs: about 500x375, 100 kB each, in memory. Every candidate has a
process of its own and they take turns, so that what else the machine does falls on all of them.
Rates per core are by the processor time of a candidate and of its workers. TensorFlow may be
installed for another Python, as it is for few: name it by --tensorflow=PYTHON.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZES = ((500, 375), (375, 500), (500, 375), (500, 333))
BATCH, CROP, CHANNELS = 64, 224, 3


def photograph(number: int) -> bytes:
    """Smooth noise of all scales, edges and the grain of a film, as JPEG of quality 90."""
    width, height = SIZES[number % len(SIZES)]
    random = np.random.default_rng(number)
    image = np.full((height, width, 3), 128, np.float32)
    for octave in range(2, 8):
        coarse = random.normal(size=(3, 3 * 2**octave // 4, 2**octave)).astype(np.float32)
        layers = [
            np.asarray(Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC))
            for layer in coarse
        ]
        colours = np.stack(layers, -1)
        image += 80 / 2 ** (octave / 2) * (0.4 * colours + colours.mean(-1, keepdims=True))
    picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    drawing = ImageDraw.Draw(picture)
    for _ in range(25):
        corners = random.integers(-80, 80, (4, 2)) + random.integers(0, (width, height))
        drawing.polygon(list(map(tuple, corners.tolist())), tuple(random.integers(0, 256, 3)))
    grain = random.normal(0, 10, (height, width, 1))
    file = io.BytesIO()
    Image.fromarray(np.clip(picture + grain, 0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=90
    )
    return file.getvalue()


class Files:
    """The files of a directory in memory, as an `Encoded` split."""

    channels, fingerprint = CHANNELS, "of a benchmark"

    def __init__(self, directory: Path):
        self.data = [path.read_bytes() for path in sorted(directory.iterdir())]

    def __len__(self):
        return len(self.data)

    def read(self, number):
        return self.data[number], number

    def name(self, number):
        return f"image {number}"


# -------------------------------------------------------------------------------------- candidates


def ours(directory: Path, workers: int) -> Callable:
    from resjax.data.random_crop import RandomCrop
    from resjax.data.streaming import training_feed

    feed = training_feed(Files(directory), RandomCrop(CROP), 0, BATCH, workers=workers)
    return lambda: next(feed).images


def view_alone(directory: Path) -> Callable:
    from resjax.data.random_crop import RandomCrop
    from resjax.data.transforms import ImageKey

    files, crop, step = Files(directory), RandomCrop(CROP), 0

    def take():
        nonlocal step
        images = np.empty((BATCH, CROP, CROP, CHANNELS), np.uint8)
        for number, out in enumerate(images, step * BATCH):
            crop(files.data[number % len(files)], CHANNELS, ImageKey(0, 0, number), out)
        step += 1
        return images

    return take


def tensorflow(directory: Path, threads: int | None) -> Callable:
    """`tf.data` with the fused operation of its guides; None leaves the threads to AUTOTUNE."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    def view(data):
        start, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(data),
            tf.zeros([0, 0, 4]),
            area_range=(0.08, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        box = tf.concat([start[:2], size[:2]], 0)
        image = tf.image.decode_and_crop_jpeg(data, box, channels=CHANNELS)
        image = tf.image.random_flip_left_right(tf.image.resize(image, (CROP, CROP)))
        return tf.cast(image, tf.uint8)

    options = tf.data.Options()
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        options.threading.private_threadpool_size = threads
        options.threading.max_intra_op_parallelism = threads
    images = tf.data.Dataset.from_tensor_slices(Files(directory).data).repeat()
    images = images.map(view, num_parallel_calls=threads or tf.data.AUTOTUNE).batch(BATCH)
    # Left to AUTOTUNE, what is read ahead between turns would be more than `AHEAD` batches.
    batches = iter(images.prefetch(1).with_options(options))
    return lambda: next(batches)


CANDIDATES = {
    "resjax, in process": lambda directory: ours(directory, 0),
    "resjax, 1 worker": lambda directory: ours(directory, 1),
    "resjax, 2 workers": lambda directory: ours(directory, 2),
    "resjax, view alone": view_alone,
    "tf.data, 1 thread": lambda directory: tensorflow(directory, 1),
    "tf.data, AUTOTUNE": lambda directory: tensorflow(directory, None),
}
PEER = "tf.data, 1 thread"

AHEAD = 4
"""Batches that are taken before a turn: more than any candidate has ready from the last one."""


def serve(candidate: str, directory: Path) -> None:
    """Takes turns: for a line with seconds it prints images, seconds and processor seconds."""
    take = CANDIDATES[candidate](directory)
    for _ in range(AHEAD):
        assert take().shape == (BATCH, CROP, CROP, CHANNELS)
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(AHEAD):
            take()
        start, used, images = time.perf_counter(), _processor_seconds(), 0
        while time.perf_counter() < start + float(line):
            images += len(take())
        seconds = time.perf_counter() - start
        print(json.dumps((images, seconds, _processor_seconds() - used)), flush=True)


def _processor_seconds() -> float:
    """Of this process and its children, from /proc: fields 14 and 15 of `stat`."""
    total = 0
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    for process in ["self", *" ".join(child.read_text() for child in children).split()]:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def compare(
    directory: Path, python: dict[str, str], rounds: int, seconds: float
) -> dict[str, tuple[float, float]]:
    """Images per second and images per second of processor time, medians over the rounds."""
    servers, turns = {}, {name: [] for name in python}
    for name in python:
        command = [python[name], "-m", "tests.benchmarks.input", "serve", name, str(directory)]
        servers[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if servers[name].stdout.readline() != "ready\n":
            raise SystemExit(f"{name!r} did not start")
    for _ in range(rounds):
        for name, server in servers.items():
            server.stdin.write(f"{seconds}\n")
            server.stdin.flush()
            turns[name].append(json.loads(server.stdout.readline()))
    for server in servers.values():
        server.stdin.close()
        server.wait()
    rates = {name: [(n / wall, n / used) for n, wall, used in own] for name, own in turns.items()}
    return {name: tuple(np.median(own, 0).tolist()) for name, own in rates.items()}


# ---------------------------------------------------------------------------------------- decoders


def decoders() -> dict[str, Callable[[bytes], np.ndarray]]:
    import cv2
    import simplejpeg

    from resjax.data.decode import Box, decode, decode_box
    from resjax.data.headers import read_image_header

    def upper_part(data):
        header = read_image_header(data)
        return decode_box(data, 3, header, Box(0, 0, header.height // 2, header.width))

    return {
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        "OpenCV": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB),
        "simplejpeg": simplejpeg.decode_jpeg,
        "simplejpeg, fast upsampling": lambda data: simplejpeg.decode_jpeg(
            data, fastupsample=True, fastdct=True
        ),
        "simplejpeg, half size": lambda data: simplejpeg.decode_jpeg(
            data, min_height=150, min_width=150, min_factor=2
        ),
        "resjax": lambda data: decode(data, 3),
        "resjax, upper half": upper_part,
    }


def compare_decoders(directory: Path, rounds: int) -> dict[str, float]:
    """Images per second of processor time, medians over the rounds."""
    files, rates = Files(directory).data, {name: [] for name in decoders()}
    for _ in range(rounds):
        for name, decoder in decoders().items():
            start = time.process_time()
            for data in files:
                decoder(data)
            rates[name].append(len(files) / (time.process_time() - start))
    return {name: statistics.median(own) for name, own in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="feeds", choices=("feeds", "decoders"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    parser.add_argument("--tensorflow", default=sys.executable, help="a Python that has it")
    parser.add_argument("--only", default=";".join(CANDIDATES), help="candidates, by semicolon")
    options = parser.parse_args()
    only = options.only.split(";")
    if set(only) - CANDIDATES.keys() or PEER not in only:
        parser.error(f"--only={options.only!r}: {PEER} and some of {'; '.join(CANDIDATES)}")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for number in range(options.images):
            (directory / f"{number:06}.jpg").write_bytes(photograph(number))
        kilobytes = sum(path.stat().st_size for path in directory.iterdir()) / options.images / 1e3
        print(f"{options.images} images of {kilobytes:.0f} kB")
        if options.what == "decoders":
            rates = compare_decoders(directory, options.rounds)
            print("| decoder | images/s of a core |\n|---|---|")
            for decoder, rate in rates.items():
                print(f"| {decoder} | {rate:.0f} |")
            return
        python = {
            name: options.tensorflow if name.startswith("tf.data") else sys.executable
            for name in CANDIDATES
            if name in only
        }
        rates = compare(directory, python, options.rounds, options.seconds)
    print(f"| candidate | images/s | images/s of a core | of a core / {PEER} |\n|---|---|---|---|")
    for name, (wall, core) in rates.items():
        print(f"| {name} | {wall:.0f} | {core:.0f} | {core / rates[PEER][1]:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
