"""Addresses in buckets: told from directories, and refused with their remedy."""

from pathlib import Path

import pytest

from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.config.paths import local, place


def test_an_address_is_told_from_a_directory():
    assert place("gs://lab/runs/deep/") == Address("gs", "lab", "runs/deep")
    assert place("s3://lab") == Address("s3", "lab")
    assert place("az://lab/x") / "y" == Address("az", "lab", "x/y")
    assert place("runs/deep") == Path("runs/deep")
    assert place("file:///tmp/a%20b") == local("file:///tmp/a%20b") == Path("/tmp/a b")


@pytest.mark.parametrize(("text", "told"), [
    ("gcs://lab/runs", "another kind of|use gs://lab/runs"),
    ("s3a://lab/runs", "use s3://lab/runs"),
    ("ftp://lab/runs", "is an address of another kind than gs://, s3://, az:// and file://"),
    ("http://lab/runs", "is in the web, which resjax does not open; download what is there"),
    ("gs:///runs", "names the bucket '', and such a name has 3 or more lower-case letters"),
    ("gs://Lab/runs", "names the bucket 'Lab'"),
    ("gs://lab//runs", "has an empty name, or . or .., in its path; leave it out"),
    ("gs://lab/a/../b", "has an empty name, or . or .., in its path; leave it out"),
    ("gs://lab/what?", "has a character that names of objects cannot have"),
    ("gs://lab/a\nb", "has a character that names of objects cannot have"),
    (f"gs://lab/{'x' * 600}", "has more than 512 bytes in its path"),
    ("file://host/runs", "names another machine; write file:///PATH"),
])  # fmt: skip
def test_what_is_no_address_is_refused_with_its_remedy(text, told):
    with pytest.raises(ConfigError) as refused:
        place(text, "--workdir=")
    assert str(refused.value).startswith("--workdir=")
    assert any(part in str(refused.value) for part in told.split("|"))
    assert "\n" not in str(refused.value)


def test_where_a_directory_is_needed_an_address_is_refused():
    with pytest.raises(ConfigError, match=r"^--out=gs://lab/x is in a bucket, and must be on this"):
        local("gs://lab/x", "--out=")
