"""Counts of every network of the two papers, against closed forms and published numbers."""

import math

import jax
import jax.numpy as jnp
import pytest

from resjax.config import ConfigError, default_config
from resjax.config.networks import KNOWN_NAMES
from resjax.models.build import build_model, named_model, preset
from resjax.models.networks import FAMILIES, IMAGENET_STAGES, cifar
from resjax.models.shortcuts import SHORTCUTS
from resjax.models.summary import describe, layer_records
from resjax.models.trace import variable_shapes


def described(name, **keys):
    config, image_shape, classes = preset(name)
    config.model.update(keys)
    return describe(build_model(config, classes), image_shape)


def closed_form(
    stages, strides, widths, block, shortcut, size, stem, classes, channels=3, v1=False
):
    """Parameters, batch statistics, multiply-adds and projections, written out from the papers.

    `stem` is (kernel size, channels, side of its output, side after the pool).
    """
    kernel, c, side, after_pool = stem
    params, stats = kernel**2 * channels * c + 2 * c, 2 * c
    adds = kernel**2 * channels * c * side**2
    projections, side = 0, after_pool
    for blocks, stride, width in zip(stages, strides, widths, strict=True):
        for b in range(blocks):
            new_side = -(-side // stride) if b == 0 else side
            out = 4 * width if block == "bottleneck" else width
            layers = {
                "basic": [(3, c, width, new_side), (3, width, width, new_side)],
                "bottleneck": [
                    (1, c, width, new_side if v1 else side),
                    (3, width, width, new_side),
                    (1, width, out, new_side),
                ],
            }[block]
            changes = c != out or new_side != side or (b == 0 and stride != 1)
            if shortcut == "projection_all" or (shortcut == "projection" and changes):
                layers.append((1, c, out, new_side))
                projections += 1
            for size_, c_in, c_out, s in layers:
                params += size_**2 * c_in * c_out + 2 * c_out
                stats += 2 * c_out
                adds += size_**2 * c_in * c_out * s**2
            c, side = out, new_side
    return params + (c + 1) * classes, stats, adds + c * classes, projections


@pytest.mark.parametrize("shortcut", ["none", "identity", "projection", "projection_all"])
@pytest.mark.parametrize("stride_in", ["3x3", pytest.param("1x1", marks=pytest.mark.slow)])
@pytest.mark.parametrize("depth", IMAGENET_STAGES)
def test_imagenet_counts_equal_the_closed_form(depth, stride_in, shortcut):
    got = described(f"resnet{depth}", shortcut=shortcut, stride_in=stride_in)
    stages, block = IMAGENET_STAGES[depth]
    expected = closed_form(stages, (1, 2, 2, 2), (64, 128, 256, 512), block, shortcut, 224,
                           (7, 64, 112, 56), 1000, v1=stride_in == "1x1")  # fmt: skip
    assert (got.params, got.batch_stats, got.multiply_adds, got.projections) == expected
    assert got.layers == depth


@pytest.mark.parametrize("shortcut", ["none", "identity", "projection", "projection_all"])
@pytest.mark.parametrize(
    "name",
    [
        "cifar-resnet20",
        "cifar-resnet110",
        "cifar-resnet1202",
        "cifar-resnet164-bottleneck",
        "cifar-resnet1001-bottleneck",
    ],
)
def test_cifar_counts_equal_the_closed_form(name, shortcut):
    got = described(name, shortcut=shortcut)
    depth = int(name.removeprefix("cifar-resnet").split("-")[0])
    block = "bottleneck" if name.endswith("bottleneck") else "basic"
    n = (depth - 2) // (9 if block == "bottleneck" else 6)
    expected = closed_form((n, n, n), (1, 2, 2), (16, 32, 64), block, shortcut, 32,
                           (3, 16, 32, 32), 10)  # fmt: skip
    assert (got.params, got.batch_stats, got.multiply_adds, got.projections) == expected
    assert got.layers == depth


@pytest.mark.parametrize(
    ("name", "keys", "params", "multiply_adds"),
    [
        # torchvision's weight metadata: num_params, and GFLOPS to three digits.
        ("resnet18", {}, 11_689_512, 1.814e9),
        ("resnet34", {}, 21_797_672, 3.664e9),
        ("resnet50", {}, 25_557_032, 4.089e9),
        ("resnet101", {}, 44_549_160, 7.801e9),
        ("resnet152", {}, 60_192_808, 11.514e9),
        ("wide_resnet50_2", {}, 68_883_240, 11.398e9),
        ("resnext50_32x4d", {}, 25_028_904, 4.23e9),
        ("resnext101_32x8d", {}, 88_791_336, 16.414e9),
        # The paper's own bottleneck; Zagoruyko and Komodakis 2016, table 4 (36.5M).
        ("resnet50", {"stride_in": "1x1"}, 25_557_032, 3.858e9),
        ("wrn28-10", {}, 36_479_194, 5.243e9),
    ],
)
def test_published_counts(name, keys, params, multiply_adds):
    got = described(name, **keys)
    assert got.params == params
    assert got.multiply_adds == pytest.approx(multiply_adds, rel=2e-4)


@pytest.mark.parametrize(("groups", "width"), [(32, 4), (7, 5), (1, 1), (3, 100)])
def test_a_resnext_has_any_cardinality_and_width(groups, width):
    """Its count is that of Xie et al. 2017, table 1, layer by layer."""
    count, channels = 3 * 64 * 49 + 2 * 64, 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner, output = groups * width * 2**stage, 256 * 2**stage
        for block in range(blocks):
            grouped = 9 * inner * (inner // groups)
            count += channels * inner + grouped + inner * output + 2 * (2 * inner + output)
            count += 0 if block else channels * output + 2 * output
            channels = output
    assert described(f"resnext50_{groups}x{width}d").params == count + channels * 1000 + 1000


@pytest.mark.parametrize(
    ("name", "keys", "exact"),
    [
        ("resnet50", {}, (25_557_032, 53_120, 4_089_184_256)),
        ("resnet50", {"stride_in": "1x1", "shortcut": "none"}, (22_780_456, 45_440, 3_498_311_680)),
        ("plain34", {}, (21_623_848, 15_232, 3_644_493_824)),
        ("resnet34", {"shortcut": "identity"}, (21_623_848, 15_232, 3_644_493_824)),
        ("resnet34", {"shortcut": "projection_all"}, (22_716_840, 22_784, 3_830_747_136)),
        ("resnet18", {}, (11_689_512, 9_600, 1_814_073_344)),
        ("resnet34", {}, (21_797_672, 17_024, 3_663_761_408)),
        ("cifar-plain20", {}, (269_722, 1_376, 40_551_040)),
        ("cifar-resnet20", {}, (269_722, 1_376, 40_551_040)),
        ("cifar-resnet20", {"order": "preact"}, (269_722, 1_376, 40_551_040)),
        ("cifar-resnet20", {"shortcut": "projection"}, (272_474, 1_568, 40_813_184)),
        ("cifar-resnet20", {"shortcut": "projection_all"}, (283_962, 2_048, 42_648_192)),
        ("cifar-resnet56", {}, (853_018, 4_064, 125_485_696)),
        ("cifar-resnet56", {"shortcut": "projection_all"}, (900_858, 6_080, 132_301_440)),
        ("cifar-resnet110", {}, (1_727_962, 8_096, 252_887_680)),
        ("cifar-resnet110", {"shortcut": "projection"}, (1_730_714, 8_288, 253_149_824)),
    ],
)
def test_exact_counts(name, keys, exact):
    got = described(name, **keys)
    assert (got.params, got.batch_stats, got.multiply_adds) == exact


def multiply_adds_of_program(jaxpr):
    """Counted a second way, in the traced program and not from the modules."""
    total = 0
    for equation in jaxpr.eqns:
        outputs = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out = equation.params["dimension_numbers"].rhs_spec[0]
            total += outputs * math.prod(kernel) // kernel[out]
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += outputs * math.prod(equation.invars[0].aval.shape[a] for a in contracted)
        else:
            inner = [getattr(value, "jaxpr", value) for value in equation.params.values()]
            inner = [value for value in inner if hasattr(value, "eqns")]
            total += equation.params.get("length", 1) * sum(map(multiply_adds_of_program, inner))
    return total


@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("block", ["single", pytest.param("bottleneck", marks=pytest.mark.slow)])
def test_layers_and_program_agree_on_the_multiply_adds(block, shortcut):
    config = default_config()
    config.model.update({"shortcut": shortcut, "block": block, "width": 8, "conv": "xla"})
    config.model.depth = {"single": 11, "bottleneck": 29}[block]
    model = build_model(config, 10)
    variables = variable_shapes(model, (32, 32, 3))
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    program = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, image)
    got = describe(model, (32, 32, 3))
    assert got.multiply_adds == multiply_adds_of_program(program.jaxpr)
    assert got.multiply_adds == sum(section.multiply_adds for section in got.sections)
    assert got.params == sum(section.params for section in got.sections)
    assert got.batch_stats == sum(section.batch_stats for section in got.sections)


@pytest.mark.parametrize(
    ("shortcut", "projections"),
    [("none", 0), ("identity", 0), ("projection", 2), ("projection_all", 27), ("scaled", 0),
     ("avgpool_projection", 2), ("exclusive_gate", 0), ("shortcut_gate", 0), ("dropout", 0)],
)  # fmt: skip
def test_number_of_projections(shortcut, projections):
    assert described("cifar-resnet56", shortcut=shortcut).projections == projections


@pytest.mark.parametrize("depth", [164, 1001])
def test_bottlenecks_for_cifar_project_where_the_shape_changes(depth):
    """He et al. 2016, appendix; table 4 has 1.7M parameters for 164 layers."""
    found = described(f"cifar-resnet{depth}-bottleneck")
    assert (found.layers, found.projections) == (depth, 3)
    if depth == 164:
        assert found.params == 1_704_154


def test_gates_add_one_convolution_with_a_bias_to_every_block():
    plain, gated = (
        described("cifar-resnet20", shortcut=kind) for kind in ("none", "shortcut_gate")
    )
    widths_in = [16, 16, 16, 16, 32, 32, 32, 64, 64]
    widths_out = [16, 16, 16, 32, 32, 32, 64, 64, 64]
    gates = sum((a + 1) * b for a, b in zip(widths_in, widths_out, strict=True))
    assert gated.params - plain.params == gates


def test_sections_of_resnet50():
    """Outputs of He et al. 2015, table 1; receptive fields by r += (k - 1) j."""
    sections = described("resnet50").sections
    assert [section.name for section in sections] == ["stem", "stage1", "stage2", "stage3",
    "stage4",
                                                      "head"]  # fmt: skip
    assert [section.output for section in sections] == [
        (56, 56, 64), (56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048), (1000,),
    ]  # fmt: skip
    assert [section.blocks for section in sections] == [0, 3, 4, 6, 3, 0]
    # 11 after the pool with a pitch of 4; each 3x3 adds twice the pitch at its input.
    assert [section.receptive_field for section in sections][:3] == [11, 35, 35 + 8 + 3 * 16]


def test_every_layer_is_recorded_once_with_its_shapes():
    config, image_shape, classes = preset("cifar-resnet20")
    records = layer_records(build_model(config, classes), image_shape)
    assert sum(record.times for record in records) == 20
    strided = next(r for r in records if r.path == ("stage2", "first", "conv1"))
    assert (strided.input_shape, strided.output_shape) == ((32, 32, 16), (16, 16, 32))


@pytest.mark.parametrize("name", KNOWN_NAMES)
def test_every_suggested_name_makes_a_network(name):
    config, image_shape, classes = preset(name)
    build_model(config, classes)
    assert FAMILIES[config.model.name].image_shape == image_shape


@pytest.mark.parametrize(
    ("name", "message"),
    [("resnet51", "nearest: resnet50"), ("cifr-resnet56", "nearest: cifar-resnet56"),
     ("zzz", "known: resnet18, ")],
)  # fmt: skip
def test_unknown_network_names_the_nearest(name, message):
    with pytest.raises(ConfigError, match=f"unknown network '{name}'; {message}"):
        preset(name)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"depth": 57}, r"CIFAR depth 57 is not 6n\+2; nearest: 56, 62"),
        ({"depth": 57, "block": "bottleneck"}, r"is not 9n\+2; nearest: 56, 65"),
        ({"name": "imagenet", "depth": 51}, "is not one of 18, 34, 50.*nearest: 34, 50"),
        ({"name": "imagenet", "depth": 34, "block": "bottleneck"}, "has basic blocks"),
        ({"name": "wrn", "depth": 27}, r"is not 6n\+4; nearest: 22, 28"),
        ({"name": "mlp", "depth": 5}, r"MLP depth 5 is not 2n\+2; nearest: 4, 6"),
        ({"name": "mlp", "depth": 6, "block": "bottleneck"}, "has no bottleneck blocks"),
        ({"name": "vgg"}, "unknown model.name 'vgg'; choose one of: cifar, imagenet, wrn, mlp"),
        ({"groups": 2}, "need bottleneck blocks"),
        ({"depth": 56, "block": "bottleneck", "groups": 3}, "does not divide the 16 inner"),
        ({"order": "pre"}, "choose one of: post, bn_after_add"),
        ({"stem": "dense"}, "does not fit"),
        ({"shortcut": "scaled", "shortcut_base": "none"}, "needs something to modify"),
        ({"shortcut": "dropout", "shortcut_base": "scaled"}, "modifies a shortcut itself"),
        ({"shortcut": "none", "zero_last_gamma": True}, "there is no other path"),
        ({"shortcut": "none", "stochastic_depth": 0.5}, "drops whole branches"),
        ({"shortcut": "none", "kernel_init": "fixup"}, "there is no other path"),
        (
            {"shortcut": "none", "residual_scale": 0.0, "learn_residual_scale": True},
            "no other path",
        ),
        ({"shortcut": "scaled", "shortcut_scale": 0.0, "zero_last_gamma": True}, "no other path"),
        (
            {"shortcut": "dropout", "shortcut_dropout": 1.0, "zero_last_gamma": True},
            "no other path",
        ),
        ({"shortcut": "scaled", "branch_scale": 0.0}, "leaves the branches out for ever"),
        ({"residual_scale": 0.0}, "leaves the branches out for ever"),
        ({"kernel_init": "zeros"}, "starts every layer at zero"),
        ({"kernel_init": "fixup"}, "is for nets without normalisation"),
        ({"head_init": "fixup"}, "is for branches"),
        ({"order": "preact", "zero_last_gamma": True}, "ends with a normalisation"),
        ({"order": "relu_before_add", "zero_last_gamma": True}, "ends with a normalisation"),
        ({"name": "wrn", "depth": 10, "width": 8}, "from 16 to 8.*use model.shortcut=projection"),
        (
            {"name": "wrn", "depth": 10, "width": 8, "shortcut": "scaled"},
            "use model.shortcut_base=",
        ),
        ({"name": "wrn", "depth": 28, "block": "single"}, "WRN has no single blocks"),
        ({"stem": "deep", "width": 1}, "halves its 1 channels; raise model.width"),
        (
            {"depth": 29, "block": "bottleneck", "bottleneck_width": 0.01},
            "leaves no inner channels",
        ),
        ({"depth": 2}, "nearest: 8, 14"),
    ],
)
def test_what_is_impossible_or_unsound_is_refused_with_a_remedy(keys, message):
    config = default_config()
    config.model.update(keys)
    with pytest.raises(ConfigError, match=message):
        build_model(config, 10)


def test_images_smaller_than_the_strides_are_refused():
    config, _, classes = preset("resnet18")
    model = build_model(config, classes)
    with pytest.raises(ValueError, match=r"images of 31x40 are too small.*smallest are 32x32"):
        variable_shapes(model, (31, 40, 3))


@pytest.mark.parametrize("n", [1, 3, 200])
def test_a_family_has_every_depth(n):
    assert cifar(6 * n + 2).depth == 6 * n + 2
    assert cifar(9 * n + 2, block="bottleneck").depth == 9 * n + 2
    assert cifar(3 * n + 2, block="single").depth == 3 * n + 2


def test_fixup_needs_a_branch_that_does_not_end_with_an_activation():
    config = default_config()
    config.norm.kind = "none"
    config.model.kernel_init = "fixup"
    build_model(config, 10)
    config.model.order = "relu_before_add"
    with pytest.raises(ConfigError, match="has no gradient"):
        build_model(config, 10)


def test_a_named_model_takes_other_keys():
    model = named_model("cifar-resnet20", shortcut="projection_all")
    assert describe(model, (32, 32, 3)).projections == 9


@pytest.mark.parametrize(
    ("order", "normalised"), [("post", True), ("relu_preact", True), ("preact", False)]
)
def test_projections_of_pre_activation_nets_have_no_norm(order, normalised):
    """He et al. 2016, appendix; the block's own first BN and ReLU come before them."""
    model = named_model("cifar-resnet8", shortcut="projection", order=order)
    shortcut = variable_shapes(model, (32, 32, 3))["params"]["stage2"]["first"]["shortcut"]
    assert ("norm" in shortcut) is normalised


def test_a_block_opens_itself_only_where_blocks_begin_with_a_normalisation():
    with pytest.raises(ConfigError, match="opening=block needs blocks that begin with a normalis"):
        named_model("resnet50", opening="block")
    paths = variable_shapes(named_model("resnetv2_50"), (64, 64, 3))["params"]
    assert "norm1" not in paths["stem"]
    assert paths["stage1"]["first"]["norm1"]["scale"].shape == (64,)
