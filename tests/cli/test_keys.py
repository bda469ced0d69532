"""`resjax keys` finds the keys of a config, and says what the reference says of them."""

import json

import pytest

from resjax.cli.main import main
from resjax.cli.reference import matching
from resjax.config.keys import KEYS

OWN = """
from resjax.config import default_config
from resjax.config.keys import KEYS, Key

KEYS["norm.alpha"] = Key(0.5, "Share of the shortcut.")

def get_config():
    config = default_config()
    config.model.depth = 56
    return config
"""


@pytest.mark.parametrize(("pattern", "found"), [
    ("model.depth", {"model.depth"}),
    ("LEARNING Rate warm", {"optim.warmup_shape", "optim.warmup_factor"}),  # all words, any case
    ("weight-decay", {"optim.weight_decay"}),
    ("zagoruyko", {"model.name"}),  # in a meaning
    ("shortcut_gate", {"model.shortcut"}),  # among the values
    ("he_normal_fan_in", {"model.kernel_init", "model.head_init"}),
    ("checkpoint.*", {"checkpoint.seconds", "checkpoint.keep"}),
    ("seed", {"seed"}),
    ("lr", {"optim.learning_rate"}),  # as other programs call it
])  # fmt: skip
def test_a_key_is_found_by_its_name_its_meaning_and_its_values(pattern, found):
    assert found <= {*matching(pattern)}
    assert len(matching(pattern)) < 8
    assert matching(pattern) == [key for key in KEYS if key in matching(pattern)]


def test_every_glob_finds_keys_of_its_own_and_the_words_together_others(capsys):
    found = matching("Norm.* learning checkpoint.* rate")
    apart = [*matching("norm.*"), *matching("checkpoint.*"), *matching("learning rate")]
    assert found == [key for key in KEYS if key in apart]
    assert len(matching("norm.* checkpoint.*")) < len(found)
    assert main(["keys", "norm.*", "checkpoint.*", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["key"] for line in lines] == matching("norm.* checkpoint.*")


def test_without_a_pattern_there_is_every_key_as_the_reference_has_it(capsys):
    assert main(["keys", "--json"]) == 0
    found = {each["key"]: each for each in map(json.loads, capsys.readouterr().out.splitlines())}
    assert list(found) == list(KEYS)
    for name, key in KEYS.items():
        default = list(key.default) if isinstance(key.default, tuple) else key.default
        assert found[name]["default"] == default
        assert found[name]["meaning"] == key.meaning
        assert found[name]["choices"] == list(key.choices)
    assert "shortcut_gate" not in found["model.shortcut_base"]["values"]


@pytest.mark.parametrize("columns", [60, 80])
def test_keys_are_printed_as_wide_as_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["keys"]) == 0
    out = capsys.readouterr().out
    assert columns - 10 < max(map(len, out.splitlines())) <= columns
    for name, key in KEYS.items():
        assert f"\n{name} = {key.default!r}\n" in f"\n{out}"


def test_the_values_of_an_experiment_stand_beside_the_defaults(tmp_path, tables, capsys):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    assert main(["keys", "model.d*", f"--config={path}"]) == 0
    assert capsys.readouterr().out.startswith("model.depth = 56 (default: 20)\n")
    assert main(["keys", "norm.alpha", "--json", f"--config={path}"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["key"], found["value"], found["meaning"]) == (
        "norm.alpha", 0.5, "Share of the shortcut.",
    )  # fmt: skip
    assert found["added_by"].endswith("mine.py")


@pytest.mark.parametrize(("pattern", "message"), [
    ("model.dpth", "no key matches 'model.dpth'; nearest: model.depth"),
    ("norm.x*", "no key matches 'norm.x*'; nearest: "),
    ("norm.* optm.*", "no key matches 'optm.*'; nearest: optim."),
    ("norm.* zzz rate", "no key matches 'zzz rate'; "),
])  # fmt: skip
def test_a_search_without_a_result_names_the_nearest_keys(pattern, message, capsys):
    assert main(["keys", pattern]) == 2
    assert message in capsys.readouterr().err
