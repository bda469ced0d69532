"""How much memory an import takes: a large network must fit beside what reads it."""

import subprocess
import sys

import pytest

from tests.interop.peers import ForCifar, torchvision

safetensors = pytest.importorskip("safetensors.torch")

PEAK = """
import sys
from resjax.cli.main import main
code = main(["import", sys.argv[1], "--out=" + sys.argv[2]])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024, file=sys.stderr)
sys.exit(code)
"""


def peak(file, out):
    words = [sys.executable, "-c", PEAK, str(file), str(out)]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(ran.stderr.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak")
def test_resnet152_takes_less_than_three_times_its_size(tmp_path):
    small, large = tmp_path / "small.safetensors", tmp_path / "large.safetensors"
    safetensors.save_file(ForCifar(1).state_dict(), small)
    safetensors.save_file(torchvision.models.resnet152().state_dict(), large)
    grown = peak(large, tmp_path / "large") - peak(small, tmp_path / "small")
    assert grown < 3 * large.stat().st_size
