"""Datasets of which little can be said: one colour, one row, one class, all equal, scores that are all infinite.

Every ratio, logarithm, mean and bin between the pictures and the card meets its zero here.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from latentstore_cli.main import main
from PIL import Image

from latentstore import (
    CONTAINERS,
    METRICS,
    STORAGES,
    VAES,
    BuildPlan,
    SourceRow,
    build,
    compare,
    convert,
    folder_source,
    load_latents,
    open_store,
    publish,
    verify,
)
from latentstore.card import ratio_in_words
from latentstore.card.choices import CardChoices
from latentstore.card.quality import _histogram
from latentstore.comparison.figure import pictures_png
from latentstore.comparison.rate_curves import ENCODERS
from latentstore.comparison.report import markdown
from latentstore.errors import RequestError
from latentstore.quality import MetricSummary

POOL8 = VAES["pool8"]
DEFAULT = tuple(metric for metric in METRICS.values() if metric.default)
NEAR = 3 / 255
"""How far a decoded picture may be from the one it was: half a step of int8 is 1/32 of the spread of two colours."""


@dataclass(frozen=True)
class Flat:
    """Pictures of one colour each, and how they are stored."""

    colours: tuple[int, ...]
    """Grey of each picture."""
    side: int = 16
    classes: int = 0
    """How many folders they lie in; 0: in none."""
    storage: str = "float16"
    """Or ``auto``."""
    metrics: bool = True

    def source(self, folder: Path) -> SourceRow:
        """Drawn there."""
        for number, grey in enumerate(self.colours):
            path = folder / (f"class{number % self.classes}" if self.classes else ".") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (self.side, self.side), (grey,) * 3).save(path)
        return folder_source(folder)

    def plan(self, folder: Path) -> BuildPlan:
        """Of a build with it."""
        return BuildPlan(
            source=self.source(folder),
            vae=POOL8,
            config="flat",
            storage=None if self.storage == "auto" else STORAGES[self.storage],
            order="source",
            threads=1,
            metrics=DEFAULT if self.metrics else (),
        )


def shown(*arguments: object) -> str:
    """What a command prints; it must not fail."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def assert_whole(out: Path, flat: Flat) -> None:
    """It verifies, has its card, shows itself, and gives the very pictures it was built from."""
    assert [result.findings for result in verify(out, depth="full", trust=True).results if result.findings] == []
    assert "### Size" in (out / "README.md").read_text()
    assert "nan" not in shown("show", out).lower().replace("finance", "")
    found = load_latents(out)
    decoded = found.decode(found.batch(range(len(found)))["latent"]).numpy()
    numbers = [int(Path(name).name) for name in open_store(out).index()["id"]]
    expected = np.array(flat.colours, np.float32)[numbers, None, None, None] / 255
    assert np.abs(decoded - expected).max() < NEAR


colours = st.lists(st.sampled_from([0, 1, 128, 255]), min_size=1, max_size=4).map(tuple)
flats = st.builds(
    Flat,
    colours,
    side=st.sampled_from([8, 16]),
    classes=st.sampled_from([0, 1, 2]),
    storage=st.sampled_from(["float16", "int8", "auto"]),
    metrics=st.booleans(),
)


@given(flats)
@example(Flat((0, 0, 0, 0)))
@example(Flat((255,), side=8, classes=1, storage="auto"))
@example(Flat((0, 1), classes=2, storage="int8"))
@example(Flat((128, 128, 128), metrics=False))
@settings(max_examples=4, phases=[Phase.explicit, Phase.generate])
def test_flat_pictures_are_built_shown_verified_pushed_and_converted(flat: Flat) -> None:
    tar: dict[str, Any] = {"container": CONTAINERS["webdataset"], "storage": STORAGES["int8"]}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        plan = flat.plan(root / "flat")
        manifest = build(plan, root / "out")
        assert build(plan, root / "out") == manifest
        assert_whole(root / "out", flat)
        publish(root / "out", str(root / "pushed"), choices=CardChoices(license="mit"))
        convert(root / "out", root / "tar", **tar, measure=False)
        for place in ("pushed", "tar"):
            assert_whole(root / place, flat)


def test_pictures_of_which_storing_leaves_nothing_are_no_loss_of_zero(tmp_path: Path) -> None:
    """A hardly varying channel has a small step, and 127 of them may not reach its numbers.

    What is clipped is then all of the picture; as PSNR was infinite before, no difference could be said.
    """
    flat = Flat((0, 1, 0, 1), storage="int8")
    manifest = build(flat.plan(tmp_path / "flat"), tmp_path / "out")
    assert manifest.storage.calibration is not None
    assert manifest.storage.calibration.widened == (0, 1, 2)
    assert manifest.storage.clipped == (0, 0, 0)
    assert manifest.quality["psnr"].identical == 4
    assert_whole(tmp_path / "out", flat)


def test_scores_of_flat_pictures_are_counted_and_not_averaged(tmp_path: Path) -> None:
    build(Flat((0, 0)).plan(tmp_path / "flat"), tmp_path / "out")
    psnr = open_store(tmp_path / "out").manifest.quality["psnr"]
    assert (psnr.n, psnr.identical, psnr.mean, psnr.pooled, psnr.worst) == (0, 2, None, None, ())
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| the order-0 entropy of the stored numbers | 0 | - |" in card


@pytest.mark.parametrize("greys", [(0,), (7, 7), (0, 255)], ids=str)
def test_flat_pictures_are_compared(greys: tuple[int, ...], tmp_path: Path) -> None:
    source = Flat(greys).source(tmp_path / "flat")
    storages = [STORAGES["int8"], STORAGES["float16"]]
    found = compare(source, [POOL8], pictures=2, encoders=list(ENCODERS.values()), storages=storages)
    assert found.ok
    assert "nan" not in markdown(found)
    assert pictures_png(found)


def test_a_figure_with_nothing_to_draw_takes_no_table_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentstore.comparison.rate_curves.ENCODERS", {})  # image files of one colour lose something
    Flat((0, 0)).source(tmp_path / "flat")
    printed = shown("compare", tmp_path / "flat", "--vae", "pool8", "--rate", tmp_path / "rate.png")
    assert not (tmp_path / "rate.png").exists()
    assert "rate.png was not drawn: There is nothing to draw" in printed
    assert "Cost and size" in printed


@given(st.lists(st.floats(0, 200, width=32), min_size=1, max_size=5))
@example([30.0, float(np.nextafter(np.float32(30), np.float32(31)))])
@example([0.0, float(np.finfo(np.float32).smallest_subnormal)])
def test_scores_however_near_have_bins(scores: list[float]) -> None:
    summary = MetricSummary("psnr", "PSNR", "dB", True, "", len(scores), 0, 0, 1.0, 1.0, 1.0, 1.0, 1.0)  # noqa: FBT003
    lines = list(_histogram(summary, scores))
    counted = sum(int(line.split()[1]) for line in lines[4:-1])
    assert counted == (len(scores) if len(set(scores)) > 1 else 0)


def test_a_baseline_of_nothing_is_no_ratio() -> None:
    assert (ratio_in_words(0), ratio_in_words(2), ratio_in_words(0.25)) == ("-", "2.00x smaller", "4.00x larger")


def test_an_empty_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(Exception, match=r"\.$") as caught:
        build(BuildPlan(source=folder_source(tmp_path / "none"), vae=POOL8, config="c"), tmp_path / "out")
    assert not isinstance(caught.value, (ZeroDivisionError, ValueError, RequestError))
    assert not (tmp_path / "out").exists()
