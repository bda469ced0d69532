"""What the charts of the page tell apart and where they zoom, in headless Chromium."""

import pytest

from resjax.report.report import write_report
from tests.report.fabricate import write_grid

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def twelve(tmp_path_factory):
    """The page of twelve networks, which are more than there are colours."""
    workdir = tmp_path_factory.mktemp("twelve")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resjax.report.report.MOST_DRAWN", 0)  # figures take seconds
        for order in ("post", "bn_after_add", "relu_before_add", "preact"):
            write_grid(workdir, 1, (8, 20), ("none", "identity", "projection"), suffix=order,
                       epochs=4, model__order=order)  # fmt: skip
        return (write_report(workdir).directory / "index.html").as_uri()


LOOKS = """nodes => nodes.map(node => {
  const style = getComputedStyle(node), path = node.getAttribute("d");
  const paper = getComputedStyle(document.body).backgroundColor;
  const full = ![paper, "none"].includes(style.fill);
  return [path, full ? style.fill : style.stroke, full].join();
})"""


def test_twelve_networks_look_different_in_the_legend_and_in_every_chart(visit, twelve):
    page = visit(of=twelve, state='#chosen=["none-8-seed0post"]')
    looks = set(page.locator(".legend .marker path").evaluate_all(LOOKS))
    assert len(looks) == 12
    for chart in (".chart.curves", ".chart.sizes"):
        assert set(page.locator(f"{chart} .marker").evaluate_all(LOOKS)) == looks
    page.evaluate("names => State.set('chosen', JSON.stringify(names))",
                  [f"{kind}-8-seed0{order}" for kind in ("none", "identity", "projection")
                   for order in ("post", "bn_after_add", "relu_before_add", "preact")])  # fmt: skip
    assert set(page.locator(".chart.chosen .marker").evaluate_all(LOOKS)) == looks
