"""The reference of a config says what is true of every key."""

import contextlib
import re
from pathlib import Path

import pytest

from resjax.cli.reference import reference_page
from resjax.config import ConfigError, default_config
from resjax.config.durations import Clock
from resjax.config.key import SECTIONS
from resjax.config.keys import KEYS
from resjax.config.tables import written_table
from resjax.config.validation import validate
from resjax.data.transforms import INTERPOLATIONS
from resjax.models.build import build_model
from resjax.report.arms import SELECTIONS
from resjax.training.parallel import STYLES
from resjax.training.plan import make_plan

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def test_every_key_has_a_meaning_and_a_place():
    assert list(dict.fromkeys(key.rpartition(".")[0] for key in KEYS)) == list(SECTIONS)
    assert all(entry.meaning.endswith(".") and entry.described for entry in KEYS.values())


def test_the_page_is_up_to_date():
    remedy = "python -m resjax.cli.reference > docs/config.md"
    assert PAGE.read_text(encoding="utf-8") == reference_page(), remedy


@pytest.mark.parametrize("key", KEYS)
def test_a_meaning_names_what_there_is(key):
    """In backticks are values of the key, other keys with their values, and values of those."""
    entry = KEYS[key]
    for name in re.findall(r"`([^`]+)`", entry.meaning):
        other, equals, value = name.partition("=")
        if equals:
            assert value in KEYS[other].choices
        elif name.replace(".", "").isdecimal():
            low, high = entry.within
            assert low <= float(name) <= high
        else:
            assert name in (*KEYS, *entry.choices, *re.findall("`(.+?)`", entry.expected))


def built(key, **needed):
    """The names in the table of a key with which a network can be built."""
    for name in KEYS[key].entries:
        config = default_config()
        config.update_from_flattened_dict(needed | {key: name})
        with contextlib.suppress(ConfigError):
            build_model(config, classes=10)
            yield name


def test_the_choices_of_a_key_are_the_names_that_a_network_can_be_built_with():
    needed = {
        "model.shortcut_base": {"model.shortcut": "scaled"},
        "model.kernel_init": {"norm.kind": "none"},  # which fixup is for
    }
    for key in ("model.shortcut", *needed, "model.head_init", "model.order", "model.activation"):
        assert tuple(built(key, **needed.get(key, {}))) == KEYS[key].choices, key


@pytest.mark.parametrize(
    ("keys", "why"),
    [({"model.shortcut": "scaled", "model.shortcut_base": "none"}, "carries nothing"),
     ({"model.shortcut": "scaled", "model.shortcut_base": "dropout"}, "modifies a shortcut itself"),
     ({"model.kernel_init": "zeros"}, "use it for model.head_init"),
     ({"model.head_init": "fixup"}, "is for branches")],
)  # fmt: skip
def test_a_name_that_a_key_refuses_is_told_why(keys, why):
    config = default_config()
    config.update_from_flattened_dict(keys)
    with pytest.raises(ConfigError, match=why):
        make_plan(config)


@pytest.mark.parametrize("key", [key for key, entry in KEYS.items() if entry.choices])
def test_the_page_says_all_names_that_a_key_takes(key):
    row = re.search(rf"^\| `{re.escape(key)}`.*", PAGE.read_text("utf-8"), re.MULTILINE)[0]
    for name in KEYS[key].choices:
        assert re.search(rf"\b{name}\b", row.partition("|")[2])


def test_the_page_says_a_range_that_a_meaning_leaves_open():
    page = PAGE.read_text("utf-8")
    assert "kept at a step. From 0 to 1. |" in page
    assert "(Huang et al. 2016). From 0 to below 1. |" in page


@pytest.mark.parametrize("key", [key for key, entry in KEYS.items() if entry.choices])
def test_choices_are_those_that_a_wrong_name_is_told(key):
    config = default_config()
    wrong = ("wrong",) if key == "log.writers" else "wrong"
    config.update_from_flattened_dict({key: wrong})
    with pytest.raises(ConfigError, match=r"unknown .*'wrong'") as refused:
        make_plan(config)
    told = re.search(r"choose one of: (.*)", str(refused.value))[1].split(", ")
    assert tuple(told) == KEYS[key].choices


@pytest.mark.parametrize("key", KEYS)
def test_defaults_are_among_the_choices(key):
    entry, default = KEYS[key], KEYS[key].default
    values = default if isinstance(default, tuple) else [default]
    if key != "eval.probes":
        assert not entry.choices or set(values) <= set(entry.choices)


def test_every_value_of_a_choice_is_one_that_a_config_takes():
    for key, entry in KEYS.items():
        for name in entry.choices if isinstance(entry.default, str) else ():
            config = default_config()
            config.update_from_flattened_dict({key: name})
            validate(config)


@pytest.mark.parametrize("key", [key for key, entry in KEYS.items() if entry.table])
def test_names_are_read_in_the_source_of_a_table_as_they_are_in_it(key):
    entry = KEYS[key]
    table = entry.entries
    written = written_table(entry.table)
    assert (written.names, written.definable) == (tuple(table.original), bool(table.entry))
    if entry.form == "name:argument":
        assert written.forms == tuple(each.form for each in table.original.values())


def test_names_of_an_entry_are_those_of_what_they_name():
    assert KEYS["data.interpolation"].names == tuple(INTERPOLATIONS)
    assert KEYS["eval.select"].names == tuple(SELECTIONS)
    assert KEYS["train.parallel"].names == tuple(STYLES)


def test_durations_are_called_so():
    for key, entry in KEYS.items():
        assert entry.duration is ("duration" in entry.described), key
    for text in re.findall(r"`(\d\S* (?:epochs|steps|examples))`", PAGE.read_text("utf-8")):
        assert Clock(1000, 10).steps(text) > 0
