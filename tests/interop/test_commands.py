"""import, export, evaluate and predict, from the command line and against torchvision."""

import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image

import resjax
from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.interop.predicting import AT_ONCE, predict
from resjax.runs.rundir import IMPORTED, run_state
from resjax.runs.weights import read_weights
from tests.data.pictures import encoded, picture
from tests.interop.peers import ForCifar, hugging_face, randomised, torch, torchvision

safetensors = pytest.importorskip("safetensors.torch")

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")

PICTURES = 24

ROUNDED = 1e-4
"""What rounding may do to a logit of ResNet-18 in float32, and less so to a probability.

Each of its 20 layers sums up to 9 * 512 products: 20 sqrt(9 * 512) 6e-8 = 8e-5 of what it adds to.
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """ResNet-18 of torchvision, at random but for a head that tells pictures apart."""
    net = randomised(torchvision.models.resnet18(num_classes=len(CLASSES)))
    root = tmp_path_factory.mktemp("others")
    head, net.fc = net.fc, torch.nn.Identity()
    pooled = torch.from_numpy(theirs(net, make_folder(root, 14, first=5000)))
    net.fc = head
    with torch.no_grad():
        head.weight.mul_(2 / (pooled @ head.weight.T).std(0)[:, None])
        head.bias.copy_(-head.weight @ pooled.mean(0))
    return net


def sizes(number):
    random = np.random.default_rng(number)
    return int(random.integers(90, 400)), int(random.integers(90, 400))


def make_folder(root, pictures, first=0):
    """`root/train/CLASS/NUMBER.jpg`, of sizes and shapes of all kinds; some are PNG."""
    paths = []
    for number in range(first, first + pictures):
        name = CLASSES[number % len(CLASSES)]
        kind = "PNG" if number % 5 == 0 else "JPEG"
        path = root / "train" / name / f"{number}.{'png' if kind == 'PNG' else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(number, *sizes(number)), kind))
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    return root, make_folder(root, PICTURES)


def prepared(path, resize=256, size=224, interpolation="BILINEAR"):
    """As torchvision's weights say: resized, cut, from 0 to 1, normalised."""
    from torchvision import transforms

    transform = transforms.Compose([
        transforms.Resize(resize, transforms.InterpolationMode[interpolation]),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    return transform(Image.open(path).convert("RGB"))


def theirs(net, paths, **options):
    with torch.no_grad():
        return torch.cat([net(prepared(path, **options)[None]) for path in paths]).numpy()


@pytest.fixture(scope="module")
def run(net, tmp_path_factory):
    """The directory that `resjax import` made of it."""
    directory = tmp_path_factory.mktemp("import")
    safetensors.save_file(net.state_dict(), directory / "net.safetensors")
    (directory / "names.txt").write_text("\n".join(CLASSES) + "\n")
    words = [f"--out={directory / 'run'}", f"--class-names={directory / 'names.txt'}"]
    assert main(["import", str(directory / "net.safetensors"), *words]) == 0
    return directory / "run"


@pytest.mark.slow
def test_an_import_says_what_it_found_and_assumed(net, tmp_path, capsys):
    state = {name: tensor.half() for name, tensor in net.state_dict().items()}
    safetensors.save_file(state, tmp_path / "net.safetensors")
    assert main(["import", str(tmp_path / "net.safetensors"), f"--out={tmp_path / 'run'}"]) == 0
    out, err = capsys.readouterr()
    assert out == f"run: {tmp_path / 'run'}\n"
    first, images, *notes = err.splitlines()
    assert first == (
        "net.safetensors: imagenet-18, projection, 7 classes; 102 tensors by names of torchvision"
    )
    assert images == "images: resized to 256 (bilinear), 224x224x3, standardised: imagenet"
    assert notes == [
        "102 tensors were float16 and are converted to float32",
        "nothing names its architecture: whether it is dilated, anti-aliased or has another "
        "activation cannot be known, and it is taken to have none of these",
        "the file does not say how its images were prepared; the usual is assumed",
    ]
    assert run_state(tmp_path / "run") == IMPORTED
    assert not list(tmp_path.glob("run/.*"))


@pytest.mark.slow
def test_predictions_and_probabilities_are_those_of_torchvision(net, run, folder, capsys):
    paths = folder[1]
    assert main(["predict", str(run), *map(str, paths), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = torch.from_numpy(theirs(net, paths)).softmax(-1).numpy()
    assert [each["image"] for each in found] == [str(path) for path in paths]
    assert len({CLASSES[row.argmax()] for row in expected}) >= 3
    for each, row in zip(found, expected, strict=True):
        assert each["classes"][0]["name"] == CLASSES[row.argmax()]
        assert len(each["classes"]) == 5
        for one in each["classes"]:
            expected_probability = row[CLASSES.index(one["name"])]
            assert one["probability"] == pytest.approx(expected_probability, abs=ROUNDED)


@pytest.mark.slow
def test_an_evaluation_is_what_torchvision_counts(net, run, folder, capsys):
    root, paths = folder
    words = [f"--data=folder:{root}", "--json"]
    assert main(["evaluate", str(run), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    logits = torch.from_numpy(theirs(net, paths))
    labels = torch.tensor([CLASSES.index(path.parent.name) for path in paths])
    ranks = (logits > logits.gather(1, labels[:, None])).sum(-1)
    assert found["examples"] == PICTURES
    assert found["by_name"]
    assert found["top1"] == pytest.approx(float((ranks == 0).float().mean()))
    assert found["top5"] == pytest.approx(float((ranks < 5).float().mean()))
    loss = torch.nn.functional.cross_entropy(logits, labels)
    assert found["loss"] == pytest.approx(float(loss), abs=ROUNDED)


@pytest.mark.slow
def test_a_file_evaluates_like_its_run(run, folder, capsys):
    words = [f"--data=folder:{folder[0]}", "--json"]
    results = []
    for source in (run, run / "weights.safetensors", run.parent / "net.safetensors"):
        assert main(["evaluate", str(source), *words]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0] == results[1]
    assert results[0]["loss"] == results[2]["loss"]
    assert main(["evaluate", str(run), f"--config.data.name=folder:{folder[0]}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == results[0]


@pytest.mark.slow
def test_the_table_of_classes_fits_80_columns(run, folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["evaluate", str(run), f"--data=folder:{folder[0]}", "--split=train[:12]"]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 or line.startswith("folder:") for line in out.splitlines())
    assert "train[:12]: 12 images, classes matched by name" in out
    for name in CLASSES:
        assert f"\n{name} " in out


@pytest.mark.slow
def test_a_run_evaluates_to_its_own_result(tiny, tmp_path, capsys):
    from resjax.runs.loop import train_and_evaluate

    summary = train_and_evaluate(tiny, tmp_path / "run")
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["top1"] == pytest.approx(1 - summary.test_error, abs=1e-12)
    assert found["loss"] == pytest.approx(summary.test_loss, rel=ROUNDED)
    assert main(["evaluate", str(tmp_path / "run"), "--split=train", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["top1"] == pytest.approx(1 - summary.train_error, abs=1e-12)


@pytest.mark.slow
def test_scans_of_digits_in_files_of_all_kinds_are_recognised(tiny, tmp_path, capsys):
    from resjax.data.digits import digits
    from resjax.runs.loop import train_and_evaluate

    tiny.model.shortcut, tiny.model.width, tiny.train.duration = "identity", 8, "2 epochs"
    summary = train_and_evaluate(tiny, tmp_path / "run")
    test, right = digits().test, {"grey": 0, "colour": 0, "large": 0}
    for number in range(50):
        values = np.round(test.images[number, ..., 0] * (255 / 16)).astype(np.uint8)
        grey = Image.fromarray(values)
        large = grey.resize((64, 64), Image.Resampling.BICUBIC)
        for kind, image in ("grey", grey), ("colour", grey.convert("RGB")), ("large", large):
            image.save(tmp_path / f"{kind}-{number:02}.png")
    paths = sorted(map(str, tmp_path.glob("*.png")))
    assert main(["predict", str(tmp_path / "run"), *paths, "--json", "--top=1"]) == 0
    for line in capsys.readouterr().out.splitlines():
        found = json.loads(line)
        kind, _, number = found["image"].rpartition("/")[2].removesuffix(".png").partition("-")
        right[kind] += found["classes"][0]["name"] == str(test.labels[int(number)])
    assert right["grey"] == right["colour"]
    assert right["grey"] / 50 == pytest.approx(1 - summary.test_error, abs=0.1)
    assert right["large"] > 35, right


@pytest.mark.slow
def test_what_is_written_beside_a_file_prepares_the_images(tmp_path, capsys):
    net = randomised(
        hugging_face(
            id2label=dict(enumerate(CLASSES)), hidden_sizes=[32, 64, 128, 256], embedding_size=8
        )
    )
    safetensors.save_file(net.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(net.config.to_dict()))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({
        "crop_pct": 0.8, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3],
        "resample": 3, "size": {"shortest_edge": 96},
    }))  # fmt: skip
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(picture(3, 201, 150), "PNG"))
    words = [str(path), "--json", "--top=7"]
    assert main(["predict", str(tmp_path / "model.safetensors"), *words]) == 0
    out, err = capsys.readouterr()
    assert "resized to 120 (bicubic), 96x96x3" in err
    assert "no data.standardise to train by" in err

    pixels = prepared(path, 120, 96, "BICUBIC")
    pixels = pixels * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    pixels = pixels + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    mean, deviation = torch.tensor([[0.4, 0.5, 0.6], [0.2, 0.25, 0.3]])[..., None, None]
    with torch.no_grad():
        logits = net(((pixels - mean) / deviation)[None]).logits
    expected = logits.softmax(-1)[0].numpy()
    for one in json.loads(out)["classes"]:
        row = CLASSES.index(one["name"])
        assert one["probability"] == pytest.approx(expected[row], abs=ROUNDED)


@pytest.mark.slow
def test_an_exported_file_is_the_one_that_was_imported(net, run, tmp_path, capsys):
    path = tmp_path / "back.safetensors"
    assert main(["export", str(run), f"--out={path}", "--names=torchvision"]) == 0
    assert "122 tensors by names of torchvision" in capsys.readouterr().out
    back, state = safetensors.load_file(path), net.state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_what_is_imported_is_never_run_over(run, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    again = ["import", str(run.parent / "net.safetensors"), f"--out={run}"]
    assert main(again) == 2
    assert "holds a run that is imported" in capsys.readouterr().err
    config = "--config=experiments/degradation.py"
    assert main(["train", config, f"--workdir={run}"]) == 2
    assert f"--config.train.init_from={run}" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_nothing_is_imported_into_a_sweep(run, capsys):
    words = ["import", str(run.parent / "net.safetensors")]
    assert main([*words, f"--out={run.parent}"]) == 2
    assert "is a sweep (runs so far: 1); give this run a directory" in capsys.readouterr().err
    assert not (run.parent / "config.json").exists()


@pytest.mark.slow
def test_fine_tuning_what_was_imported(tmp_path, capsys, folder):
    """A net for CIFAR on other classes: the head is new, and that is said."""
    safetensors.save_file(randomised(ForCifar(1)).state_dict(), tmp_path / "net.safetensors")
    assert main(["import", str(tmp_path / "net.safetensors"), f"--out={tmp_path / 'run'}"]) == 0
    words = [
        "--config=experiments/degradation.py", f"--config.train.init_from={tmp_path / 'run'}",
        "--config.model.depth=8", "--config.model.width=16", "--config.model.shortcut=identity",
        "--config.model.identity_pad=both", "--config.data.name=fake:32x32x3:4:200",
        "--config.train.duration=2 steps", "--config.train.batch_size=20",
        "--config.optim.learning_rate=0.001", f"--workdir={tmp_path / 'tuned'}",
    ]  # fmt: skip
    assert main(["train", *words]) == 0
    assert "a new head: 10 classes there, 4 here" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "tuned"), "--json"]) == 0
    result = json.loads((tmp_path / "tuned" / "result.json").read_text())
    top1 = json.loads(capsys.readouterr().out)["top1"]
    assert math.isclose(top1, 1 - result["test_error"])
    image = str(folder[1][0])
    assert main(["predict", str(tmp_path / "tuned"), image]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data=folder:absent"], "absent is not a directory"),
        (["--data=digits"], "set it to 0"),
        (["--data=digits", "--config.data.name=fake:8x8x3:7"], "the same; give one of them"),
        (["--split=train", "--config.data.test=train"], "--config.data.test are the same; give"),
        (["--data=fake:32x32x5:7:100", "--config.data.size=0"], "images of 5 channels are not see"),
        (["--data=fake:32x32x3:9:100", "--config.data.size=0"], "has 9 classes, such as '0', and"),
        (["--data=fake:8x8x3:7:100", "--config.data.size=0"], "too small for strides of 32"),
        (["--config.model.order=preact"], "model.order is that of the weights"),
        (["--config.data.interpolation=cubic"], "unknown data.interpolation 'cubic'; choose one"),
        (["--config.data.rezise=3"], "unknown config key 'data.rezise'; nearest: data.resize"),
    ],
)
def test_evaluations_that_cannot_be_made(words, message, run, folder, capsys):
    data = (
        [] if any(word.startswith("--data") for word in words) else [f"--data=folder:{folder[0]}"]
    )
    assert main(["evaluate", str(run), *words, *data]) == 2
    assert message in capsys.readouterr().err


def test_predictions_that_cannot_be_made(run, tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("no image")
    for image, message in (("text.jpg", "are not an image"), ("absent.jpg", "does not exist")):
        assert main(["predict", str(run), str(tmp_path / image)]) == 2
        assert message in capsys.readouterr().err
    assert main(["predict", str(tmp_path), str(tmp_path / "text.jpg")]) == 2
    assert f"no run in {tmp_path}; name the directory of a run" in capsys.readouterr().err
    assert main(["predict", str(run.parent), str(tmp_path / "text.jpg")]) == 2
    assert "is a sweep; name one of its runs, such as" in capsys.readouterr().err


@pytest.mark.slow
def test_predictions_on_many_images(net, run, tmp_path, capsys):
    """They are those of torchvision, preprocessing included."""
    paths = make_folder(tmp_path, 120)
    assert main(["predict", str(run), *map(str, paths), "--json", "--top=1"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ours = [each["classes"][0]["name"] for each in found]
    expected = [CLASSES[row.argmax()] for row in theirs(net, paths)]
    assert len(set(expected)) >= 3
    assert ours == expected
    shutil.rmtree(tmp_path / "train")


def test_a_bad_image_is_refused_before_anything_is_computed(run, folder, tmp_path, capsys):
    whole = folder[1][0]
    (tmp_path / "cut.jpg").write_bytes(folder[1][1].read_bytes()[:-200])
    images = [str(whole)] * (AT_ONCE + 1)
    assert main(["predict", str(run), *images, str(tmp_path / "cut.jpg")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "cut.jpg: " in said.err
    assert "--config.data.on_bad=skip leaves it out" in said.err


@pytest.mark.slow
def test_bad_images_are_left_out_where_that_is_wished(run, folder, tmp_path, capsys):
    good = [str(path) for path in folder[1][:3]]
    (tmp_path / "text.jpg").write_text("no image")
    words = ["predict", str(run), good[0], str(tmp_path / "text.jpg"), *good[1:], "--json"]
    assert main(["predict", str(run), *good, "--json"]) == 0
    expected = capsys.readouterr().out
    assert main([*words, "--config.data.on_bad=skip"]) == 1
    said = capsys.readouterr()
    assert said.out == expected
    assert "text.jpg: " in said.err
    assert "left out: 1 of 4 images, which cannot be read" in said.err
    weights = read_weights(run)
    with weights.about.config.data.unlocked():
        weights.about.config.data.on_bad = "skip"
    of_text, of_good = predict(
        weights, weights.about.config.data, [tmp_path / "text.jpg", folder[1][0]]
    )
    assert of_text.classes == ()
    assert of_text.error.startswith(f"{tmp_path / 'text.jpg'}: ")
    assert (bool(of_good.classes), of_good.error) == (True, "")


@pytest.mark.slow
def test_predictions_are_given_as_their_batches_are_done(run, folder, tmp_path):
    weights = read_weights(run)
    late = tmp_path / "late.jpg"
    late.write_bytes(folder[1][1].read_bytes())
    found = predict(weights, weights.about.config.data, [folder[1][0]] * AT_ONCE + [late])
    late.write_text("no image")  # which is seen when its batch is prepared
    for _ in range(AT_ONCE):
        assert next(found).image == folder[1][0]
    with pytest.raises(ConfigError, match=r"late.jpg: .*on_bad=skip leaves it out"):
        next(found)


def test_the_doctor_knows_imported_weights_and_finds_damage(run, tmp_path, capsys):
    copy = tmp_path / "runs" / "copy"
    shutil.copytree(run, copy)
    main(["doctor", str(copy.parent)])
    assert "copy: imported" in capsys.readouterr().out
    data = bytearray((copy / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(data)
    main(["doctor", str(copy.parent)])
    out = capsys.readouterr().out
    assert "copy: damaged" in out
    assert "do not have the SHA-256 that it states" in out


def test_an_import_can_be_read_by_all_who_can_read_the_directory(run):
    modes = {path.stat().st_mode for path in run.iterdir()}
    assert len(modes) == 1


@pytest.mark.slow
@pytest.mark.parametrize("standardise", ["channel", "pixel"])
def test_a_run_that_is_exported_and_imported_evaluates_as_before(
    standardise, tiny, tmp_path, capsys
):
    from resjax.runs.loop import train_and_evaluate

    tiny.model.shortcut, tiny.data.standardise = "projection", standardise
    run, file, back = tmp_path / "run", tmp_path / "net.safetensors", tmp_path / "back"
    train_and_evaluate(tiny, run)
    assert main(["export", str(run), f"--out={file}", "--names=akamaster"]) == 0
    assert main(["import", str(file), f"--out={back}"]) == 0
    err = capsys.readouterr().err
    assert f"images: 8x8x1, standardised: {standardise}\n" in err
    assert "assumed" not in err
    found = []
    for source in (run, back, file):
        assert main(["evaluate", str(source), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[1] == found[0]
    assert found[2] == found[0]
    with safetensors.safe_open(file, "pt") as tensors:
        assert tensors.metadata()["format"] == "pt"


def test_weights_of_resjax_are_not_imported_but_taken(run, tmp_path, capsys):
    words = [str(run / "weights.safetensors"), f"--out={tmp_path / 'run'}"]
    assert main(["import", *words]) == 2
    assert "is a file of resjax: evaluate, predict, export, train" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_nothing_says_is_set_by_keys(tmp_path):
    net = randomised(torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [3, 4, 6, 3]))
    file = tmp_path / "net.safetensors"
    safetensors.save_file(net.state_dict(), file)
    said = resjax.import_weights(str(file), {"model.stride_in": "1x1", "data.resize": 232})
    assert said.weights.model.spec == resjax.named_model("resnet50", stride_in="1x1").spec
    assert said.weights.about.config.data.resize == 232
    for settings, message in (
        ({"model.stride": "1x1"}, "unknown config key 'model.stride'; nearest: model.stride_in"),
        ({"model.stride_in": 1}, "model.stride_in=1 is not str"),
    ):
        with pytest.raises(ConfigError, match=message):
            resjax.import_weights(file, settings)


def test_statistics_of_grey_images_are_not_guessed(tmp_path, capsys):
    net = randomised(ForCifar(1))
    net.conv1 = torch.nn.Conv2d(1, 16, 3, bias=False)
    safetensors.save_file(net.state_dict(), tmp_path / "net.safetensors")
    words = ["import", str(tmp_path / "net.safetensors")]
    for number, more in enumerate(([], ["--config.data.standardise=channel"])):
        assert main([*words, f"--out={tmp_path / str(number)}", *more]) == 2
        assert "that it was trained with must be known: write them" in capsys.readouterr().err
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.02], "image_std": [0.03], "size": 32})
    )
    assert main([*words, f"--out={tmp_path / 'run'}"]) == 0
    weights = read_weights(tmp_path / "run")
    np.testing.assert_allclose([weights.mean, weights.deviation], [[5.1], [7.65]], rtol=1e-6)
