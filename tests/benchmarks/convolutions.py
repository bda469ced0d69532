"""Single convolutions on the CPU, forward and backward, in every form that `resjax.ops.forms` has.

    python -m tests.benchmarks.convolutions

A row for each shape and product with the median milliseconds of each form, and the GFLOP/s of the
native one. From this the choice of a form by shape was made.
"""

import functools
import statistics
import time

import jax

from resjax.ops.forms import CANONICAL, NATIVE, PATCHES, STOCK, Form, Geometry

FORMS = {"native": NATIVE, "stock": STOCK, "canonical": CANONICAL, "patches": PATCHES}

SHAPES = [
    # batch, side, channels in and out, stride, kernel, groups
    (128, 32, 3, 16, 1, 3, 1),
    (128, 32, 16, 16, 1, 3, 1),
    (128, 32, 16, 32, 2, 3, 1),
    (128, 16, 32, 32, 1, 3, 1),
    (128, 8, 64, 64, 1, 3, 1),
    (32, 16, 64, 64, 1, 3, 1),
    (32, 8, 128, 128, 1, 3, 1),
    (32, 4, 256, 256, 1, 3, 1),
    (32, 2, 512, 512, 1, 3, 1),
    (32, 64, 3, 64, 2, 7, 1),
    (16, 24, 64, 256, 1, 1, 1),
    (16, 24, 256, 512, 2, 1, 1),
    (16, 12, 128, 128, 1, 3, 32),
    (64, 8, 8, 8, 1, 3, 1),
    (64, 2, 32, 32, 1, 3, 1),
]


def milliseconds(function, *operands) -> float:
    jax.block_until_ready(function(*operands))
    times, end = [], time.perf_counter() + 0.2
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(function(*operands))
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    print("| batch, side, in, out, stride, kernel, groups | product | "
          + " | ".join(f"{name}, ms" for name in FORMS) + " | native, GFLOP/s |")  # fmt: skip
    print("|---" * (len(FORMS) + 3) + "|")
    for batch, side, inputs, outputs, stride, size, groups in SHAPES:
        geometry = Geometry((side, side), (size, size), stride, groups)
        x = jax.random.normal(jax.random.key(0), (batch, side, side, inputs))
        kernel = jax.random.normal(jax.random.key(1), (size, size, inputs // groups, outputs))
        y = jax.random.normal(jax.random.key(2), (batch, *geometry.output, outputs))
        flops = 2 * y.size * size**2 * inputs // groups
        for product, operands in zip(Form._fields, [(x, kernel), (y, kernel), (x, y)], strict=True):
            ms = {}
            for name, form in FORMS.items():
                if groups > 1 and form in (CANONICAL, PATCHES):
                    continue
                function = jax.jit(functools.partial(getattr(form, product), geometry=geometry))
                ms[name] = milliseconds(function, *operands)
            cells = [f"{ms[name]:.2f}" if name in ms else "" for name in FORMS]
            shape = (batch, side, inputs, outputs, stride, size, groups)
            print(f"| {', '.join(map(str, shape))} | {product.replace('_', ' ')} | "
                  + " | ".join(cells) + f" | {flops / ms['native'] / 1e6:.0f} |",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    from resjax.ops import native

    if not native.available():
        raise SystemExit("the kernels are not built")
    main()
