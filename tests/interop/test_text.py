"""Text that people write beside weights, as their editors save it."""

import codecs
import json

import pytest

from resjax.config import ConfigError
from resjax.interop.class_names import read_class_names
from resjax.interop.sidecars import read_sidecars

ENCODINGS = {
    "plain": ("utf-8", b""),
    "byte order mark": ("utf-8", codecs.BOM_UTF8),
    "UTF-16, little": ("utf-16-le", codecs.BOM_UTF16_LE),
    "UTF-16, big": ("utf-16-be", codecs.BOM_UTF16_BE),
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("encoding", "mark"), ENCODINGS.values(), ids=ENCODINGS)
def test_names_are_the_same_however_an_editor_saves_them(encoding, mark, end, tmp_path):
    names = ("dog", "", "chat sauvage", "Müsli")
    for text in (end.join(names), end.join((*names, "", "")), f"dog {end}{end.join(names[1:])}"):
        (tmp_path / "names.txt").write_bytes(mark + text.encode(encoding))
        assert read_class_names(tmp_path / "names.txt") == names
    (tmp_path / "names.txt").write_bytes(mark)
    assert read_class_names(tmp_path / "names.txt") == ()


@pytest.mark.parametrize(
    "text",
    [
        "{0: 'tench, Tinca tinca',\n 1: 'goldfish'}",
        json.dumps({"1": "goldfish", "0": "tench, Tinca tinca"}),
        json.dumps({"0": ["n01440764", "tench, Tinca tinca"], "1": ["n01443537", "goldfish"]}),
        json.dumps(["tench, Tinca tinca", "goldfish"], indent=1),
    ],
)
def test_names_may_be_listed_as_python_and_json_write_them(text, tmp_path):
    path = tmp_path / "names.txt"
    path.write_text(text)
    assert read_class_names(path) == ("tench, Tinca tinca", "goldfish")


@pytest.mark.parametrize(
    "text",
    [
        "{", "[1, 2]", "{'a': 'b'}", "{1: 'b'}", "[[]]", "{'tench': 0}", "{'tench', 'goldfish'}",
        "[" * 10_000, "{1e999: 'tench'}",
    ],
)  # fmt: skip
def test_what_is_no_list_of_names_is_refused(text, tmp_path):
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"names\.json is no list of names.*one name a line"):
        read_class_names(path)


def test_json_beside_weights_may_have_a_byte_order_mark(tmp_path):
    names = {"id2label": {0: "dog", 1: "cat"}}
    (tmp_path / "config.json").write_bytes(json.dumps(names, indent=1).encode("utf-8-sig"))
    assert read_sidecars(tmp_path).class_names == ("dog", "cat")
