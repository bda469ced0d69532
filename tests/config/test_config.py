import functools
import json
import math
import re
from typing import get_args

import pytest

from resjax.config import PREPARED, ConfigError, default_config, flatten, nearest
from resjax.config.durations import parse_duration
from resjax.config.keys import KEYS, Key
from resjax.config.naming import deciding_keys, run_id
from resjax.config.overrides import override
from resjax.config.validation import validate
from resjax.training.plan import make_plan


def changed(**keys):
    config = default_config()
    config.update_from_flattened_dict({key.replace("__", "."): v for key, v in keys.items()})
    return config


def test_run_id_is_the_one_of_every_release():
    """A changed name would orphan every finished run."""
    assert run_id(default_config()) == "identity-20-seed0-44136fa3"
    config = changed(model__depth=56, model__shortcut="none", optim__learning_rate=0.02, seed=3)
    assert run_id(config) == "none-56-seed3-40d1d4bc"


def test_defaults_are_those_of_the_table():
    config = default_config()
    for key, said in KEYS.items():
        value = functools.reduce(getattr, key.split("."), config)
        assert (value, type(value)) == (said.default, type(said.default)), key
    assert len(flatten(config)) == len(KEYS)


def test_every_number_has_a_range_and_what_is_expected_of_it():
    for key, said in KEYS.items():
        assert (said.within is not None) is (type(said.default) in (int, float)), key
        assert said.expected or said.within is None, key


def test_a_number_out_of_its_range_is_refused_and_its_ends_are_not():
    for key, said in KEYS.items():
        if said.within:
            lowest, highest = map(type(said.default), said.within)
            for value in (lowest, highest):
                validate(changed(**{key: value}))
            told = rf"^{key}=\S+ is not {re.escape(said.expected)}$"
            for value in (lowest - 1, highest * 2 + 1):
                with pytest.raises(ConfigError, match=told):
                    validate(changed(**{key: value}))


def test_run_id_ignores_defaults_and_execution():
    assert deciding_keys(changed(model__depth=20, model__unroll="1")) == {}
    assert deciding_keys(changed(model__depth=32)) == {"model.depth": 32}


def test_a_key_added_later_keeps_the_names_of_old_runs(monkeypatch):
    old = changed(model__depth=56)
    name = run_id(old)

    monkeypatch.setitem(KEYS, "model.new_key", Key("old behaviour", "It is later."))
    assert run_id(old) == name
    new = changed(model__depth=56)
    assert new.model.new_key == "old behaviour"
    assert run_id(new) == name
    new.model.new_key = "new behaviour"
    assert run_id(new) != name


def test_a_key_decides_the_result_its_bits_or_nothing():
    assert {said.decides for said in KEYS.values()} == set(get_args(Key.__annotations__["decides"]))


def test_run_id_sees_every_key_that_decides_a_result():
    other = {int: lambda v: v + 1, float: lambda v: v / 2 + 0.01, bool: lambda v: not v,
             str: lambda v: f"{v}x", tuple: lambda v: v[:1]}  # fmt: skip
    default = run_id(default_config())
    for key, said in KEYS.items():
        config, value = default_config(), said.default
        one_duration = said.duration and isinstance(value, str)
        changed_value = "7 steps" if one_duration else other[type(value)](value)
        config.update_from_flattened_dict({key: changed_value})
        assert (run_id(config) == default) is said.execution, key


def test_spellings_of_a_duration_are_one_run():
    ids = {run_id(changed(train__duration=text)) for text in ("3 epochs", "3 epoch", "3epochs ")}
    assert len(ids) == 1


@pytest.mark.parametrize("text", ["50%s", "50 % epochs", "epochs", "-1 steps"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match=f"duration '{text}' is not understood"):
        parse_duration(text)


def test_prepared_data_with_a_name_of_their_own_are_one_run_however_they_are_named():
    for name in PREPARED:
        assert name in KEYS["data.name"].choices
        config = changed(data__name=f"tfds:{name}")
        validate(config)
        assert config.data.name == name
    config = changed(data__name="tfds:mnist")
    validate(config)
    assert config.data.name == "tfds:mnist"


def test_spellings_of_a_pair_are_one_run():
    spellings = [changed(data__area=(0.25, number)) for number in (1.0, 1)]
    assert {run_id(config) for config in spellings} == {"identity-20-seed0-ab09dc7a"}
    assert len({json.dumps(deciding_keys(config)) for config in spellings}) == 1
    for config in (changed(data__area=(0.08, 1)), changed(data__area=[0.08, 1])):
        assert run_id(config) == run_id(default_config())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.learning_rate", -0.1),
        ("optim.learning_rate", math.nan),
        ("optim.learning_rate", math.inf),
        ("optim.learning_rate", 0.0),
        ("optim.momentum", 1.5),
        ("norm.epsilon", 0.0),
        ("train.batch_size", 0),
        ("train.steps_per_call", -1),
        ("train.steps_per_call", 10**6),
        ("seed", -1),
        ("model.width", -1),
    ],
)
def test_numbers_out_of_range_are_refused_with_what_is_expected(key, value):
    config = default_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=rf"^{key}={value} is not .*(such as|default|from 0)"):
        validate(config)


@pytest.mark.parametrize(("key", "value"), [
    ("data.area", ("a", "b")), ("data.area", (0.5,)), ("data.area", (1.0, 0.5)),
    ("data.area", (0.0, 1.0)), ("data.area", (0.1, 1.5)), ("data.area", (0.1, math.nan)),
    ("data.area", (True, 1)), ("data.area", ((1,), {})), ("data.area", ()),
    ("data.ratio", (4 / 3, 3 / 4)), ("data.ratio", (-1, 1)), ("data.ratio", (1, 2, 3)),
    ("data.ratio", ("0.75", 1.3)), ("data.interpolation", "lanczos"), ("data.feed", "eager"),
    ("train.on_nan", "go"), ("eval.select", "last"), ("eval.statistics", "batch"),
    ("optim.milestones", (0.5,)), ("optim.milestones", (["50%"],)), ("log.writers", (["wandb"],)),
    ("log.writers", (3,)), ("eval.tune", ({},)), ("eval.tune", (("seed",),)),
])  # fmt: skip
def test_a_value_is_refused_wherever_it_would_be_used(key, value, tmp_path):
    """By the entry of its key: here where nothing streams, warms up, tunes or steps."""
    for check in (validate, make_plan):
        with pytest.raises(ConfigError) as refused:
            check(changed(**{key: value}))
        assert key in str(refused.value) or KEYS[key].duration
        assert "\n" not in str(refused.value)


def test_the_config_of_weights_is_checked_as_that_of_a_run():
    for key, value in (("interpolation", "lanczos"), ("area", "(1.0,0.5)"), ("resize", "0")):
        with pytest.raises(ConfigError, match=f"data.{key}"):
            override(default_config(), [f"--config.data.{key}={value}"])


def test_a_pair_takes_two_numbers_of_any_type_in_order():
    for value in ((1, 1), (0.5, 1), [0.25, 0.5]):
        validate(changed(data__area=value, data__ratio=value))


def test_unknown_and_missing_keys_are_refused():
    config = default_config()
    with config.unlocked():
        config.optim.learning_rte = 0.1
    with pytest.raises(ConfigError, match=r"'optim.learning_rte'; nearest: optim.learning_rate"):
        validate(config)
    config = default_config()
    with config.unlocked():
        del config.norm.epsilon
    with pytest.raises(ConfigError, match=r"'norm.epsilon' is missing"):
        validate(config)


def test_nearest_name_is_found_under_another_prefix():
    assert nearest("model.learning_rate", ["seed", "optim.learning_rate"]).endswith(
        "optim.learning_rate"
    )
    assert nearest("zzz", ["a", "b"]) == "known: a, b"


def test_a_word_that_is_no_override_is_refused():
    with pytest.raises(ConfigError, match="foo"):
        override(default_config(), ["--config.model.depth=8", "--foo"])
