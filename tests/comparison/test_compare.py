"""Several VAEs on the same pictures: the numbers of plain builds, side by side."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from noisy import NOISY
from PIL import Image
from scenes import scenes, smooth_picture, write_pictures

from latentstore import (
    METRICS,
    PROTOCOLS,
    VAES,
    BuildPlan,
    BuildProgress,
    VaeRow,
    build,
    compare,
    folder_source,
    open_store,
)
from latentstore.comparison.protocols import ColumnRow, ProtocolRow
from latentstore.comparison.rate_curves import ENCODERS
from latentstore.comparison.result import ComparedVae
from latentstore.errors import RequestError, SourceError, VaeError
from latentstore.manifest import Manifest
from latentstore.metrics.frechet import FrechetDistance
from latentstore.metrics.interface import ExtractorRow, SetMetricRow
from latentstore.vaes.pooling import PoolingVae

if TYPE_CHECKING:
    from latentstore.vaes.interface import LoadOptions, Vae

POOL = VAES["pool8"]


def offline(row: VaeRow, _: LoadOptions) -> Vae:
    raise VaeError(f"{row.name} cannot be\nreached.")


OFFLINE = replace(POOL, name="offline", family=offline)


# A protocol whose metrics look on, without weights -------------------------------------------------------------------


@dataclass(frozen=True)
class MeanColour:
    """Features: the mean of each channel, and of its square."""

    seen: list[torch.Tensor]
    weights_sha256: str = "0" * 64

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        self.seen.append(pictures)
        flat = pictures.float().flatten(2)
        return torch.cat([flat.mean(2), flat.square().mean(2) / 255], dim=1)


def onlooking(seen: list[torch.Tensor] | None = None, *, truncated: bool = False) -> ProtocolRow:
    """PSNR from the config; MAE and a distance between sets as the pictures go by."""
    found: list[torch.Tensor] = [] if seen is None else seen
    extractor = ExtractorRow("colours", 6, "Mean colours", lambda _: MeanColour(found))
    distance = SetMetricRow("fcd", "FCD", "", False, "Fréchet.", FrechetDistance, extractor, truncated=truncated)  # noqa: FBT003
    ours = PROTOCOLS["ours"]
    blank = replace(ours.columns[0], read=None, how="", published="", marks="")
    return replace(
        ours,
        name="onlooking",
        columns=(
            ours.columns[0],
            replace(blank, name="seen", title="MAE seen", short="MAE seen", picture=METRICS["mae"]),
            replace(blank, name="fcd", title="FCD", short="FCD", set=distance),
        ),
    )


def scores_of(vae: ComparedVae) -> dict[str, float | None]:
    return {name: score.value for name, score in vae.scores.items()}


# The numbers ---------------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_a_plain_build(tmp_path: Path) -> None:
    found = compare(scenes(), [POOL, NOISY], out=tmp_path / "kept")
    assert found.ok
    for vae, row in zip(found.vaes, (POOL, NOISY), strict=True):
        plain = build(BuildPlan(source=scenes(), vae=row, thumbnail=0), tmp_path / "plain")
        psnr, ssim = plain.quality["psnr"], plain.quality["ssim"]
        assert scores_of(vae) == {
            "psnr": psnr.mean,
            "psnr_pooled": psnr.pooled,
            "ssim": ssim.mean,
            "lpips": None,
            "rfid": None,
        }
        assert (vae.scores["psnr"].median, vae.scores["psnr"].p5, vae.scores["psnr"].n) == (psnr.median, psnr.p5, 30)
        assert vae.size == plain.size
        assert vae.quality == plain.quality
        assert vae.latent_shape == plain.latent_shape == (3, 5, 5)
        assert (vae.posterior, vae.dtype, vae.rows, vae.skipped) == ("mean", "float32", 30, 0)
        kept = Manifest.read(tmp_path / "kept" / plain.config)
        assert kept.splits == plain.splits  # the very bytes: `build` would find it complete


def test_a_vae_that_cannot_be_loaded_stops_no_other() -> None:
    found = compare(scenes(6), [OFFLINE, POOL])
    assert not found.ok
    assert [vae.measured for vae in found.vaes] == [False, True]
    assert found.vaes[0].reason == "offline cannot be reached."
    assert found.rows == 6


def test_a_vae_that_runs_out_of_memory_stops_no_other() -> None:
    class Huge(PoolingVae):
        def encode(self, _: torch.Tensor) -> Any:
            raise torch.cuda.OutOfMemoryError("400 GiB")

    huge = replace(POOL, name="huge", family=Huge)
    found = compare(scenes(4), [huge, POOL])
    assert [vae.measured for vae in found.vaes] == [False, True]
    assert found.vaes[0].reason == "The cpu ran out of memory with batches of 16: try a smaller one."


def test_a_mistake_in_a_vae_s_code_is_not_hidden() -> None:
    def broken(_: VaeRow, __: LoadOptions) -> Vae:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        compare(scenes(4), [replace(POOL, family=broken)])


def test_what_lacks_weights_is_named_with_the_file_it_wants(tmp_path: Path) -> None:
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"another network")
    for weights, reason in ((None, "is not at hand"), (tmp_path, "but alexnet-owt-7be5be79.pth")):
        found = compare(scenes(4), [POOL], weights=weights)
        assert set(found.unavailable) == {"lpips", "rfid"}
        assert "alexnet-owt-7be5be79.pth" in found.unavailable["lpips"]
        assert reason in found.unavailable["lpips"]
        assert "pt_inception-2015-12-05-6726825d.pth" in found.unavailable["rfid"]
        assert found.vaes[0].scores["lpips"].missing == found.unavailable["lpips"]


def test_metrics_that_look_on_see_every_picture_once() -> None:
    seen: list[torch.Tensor] = []
    found = compare(scenes(20), [POOL], protocol=onlooking(seen), batch_size=8)
    assert sum(len(pictures) for pictures in seen) == 2 * 20  # originals and decoded pictures
    scores = found.vaes[0].scores
    assert scores["seen"].value == pytest.approx(found.vaes[0].quality["mae"].mean, rel=1e-6)
    assert scores["seen"].n == scores["fcd"].n == 20
    assert scores["fcd"].value is not None
    assert scores["fcd"].value > 0
    assert any("fewer than 10,000" in warning for warning in scores["fcd"].warnings)


def test_the_network_is_shared_but_each_vae_has_its_own_distance() -> None:
    alone = [compare(scenes(8), [row], protocol=onlooking()).vaes[0] for row in (POOL, NOISY)]
    together = compare(scenes(8), [POOL, NOISY, replace(POOL, name="again")], protocol=onlooking()).vaes
    assert [scores_of(vae) for vae in together] == [*map(scores_of, alone), scores_of(alone[0])]


def test_one_picture_has_no_distance() -> None:
    score = compare(scenes(1), [POOL], protocol=onlooking()).vaes[0].scores["fcd"]
    assert (score.value, score.missing) == (None, "it compares sets of 2 pictures or more")


# Kept configs --------------------------------------------------------------------------------------------------------


def test_kept_configs_are_used_again_and_give_the_same_numbers(tmp_path: Path) -> None:
    reports: list[BuildProgress] = []
    first = compare(scenes(20), [POOL], out=tmp_path, protocol=onlooking(), progress=lambda _: reports.append)
    assert reports
    reports.clear()
    second = compare(scenes(20), [POOL], out=tmp_path, protocol=onlooking(), progress=lambda _: reports.append)
    assert not reports
    assert second == replace(first, columns=second.columns, protocol=second.protocol)
    assert (tmp_path / "synthetic-pool8-onlooking" / "manifest.json").is_file()


def test_without_out_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert compare(scenes(4), [POOL]).ok
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_has_changed_is_noticed(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (16, 16), "b.png": (16, 16)})
    source = folder_source(str(photos))
    assert compare(source, [POOL], out=tmp_path / "out").ok
    Image.fromarray(smooth_picture(16, 16, 9)).save(photos / "a.png")
    found = compare(source, [POOL], out=tmp_path / "out", pictures=2)
    assert "was built from other pictures than the source holds now" in found.vaes[0].reason


def test_a_sample_is_a_config_of_its_own(tmp_path: Path) -> None:
    found = compare(scenes(20), [POOL], out=tmp_path, limit=5, seed=2)
    manifest = open_store(tmp_path, "synthetic-limit5-pool8-seed2").manifest
    assert manifest.source.options["limit"] == 5
    assert manifest.rows == found.rows == found.available == 5
    everything = {tile.id for tile in scenes(20).open().splits["train"].read(range(20))}
    index = open_store(tmp_path, manifest.config).index()
    assert set(index["id"]) < everything
    again = compare(scenes(20), [POOL], limit=5, seed=2)
    assert scores_of(again.vaes[0]) == scores_of(found.vaes[0])
    assert scores_of(compare(scenes(20), [POOL], limit=5, seed=3).vaes[0]) != scores_of(found.vaes[0])


# The study's protocol ------------------------------------------------------------------------------------------------


def test_the_protocols_share_no_column() -> None:
    ours, study = PROTOCOLS["ours"].columns, PROTOCOLS["vaes4rs"].columns
    for word in ("name", "title", "short"):
        assert not {getattr(column, word) for column in ours} & {getattr(column, word) for column in study}
    assert all("vaes4rs" in column.title for column in study)
    assert all(len({column.published for column in columns if column.published}) == 4 for columns in (ours, study))


@pytest.mark.parametrize("protocol", list(PROTOCOLS.values()), ids=lambda row: row.name)
def test_every_column_has_one_place_where_its_number_comes_from(protocol: ProtocolRow) -> None:
    def sources(column: ColumnRow) -> int:
        return sum(part is not None for part in (column.read, column.picture, column.set))

    assert all(sources(column) == 1 for column in protocol.columns)
    assert not any(metric.weights for metric in protocol.stored)


def test_the_study_s_psnr_is_the_mean_over_batches_in_the_order_of_the_source(tmp_path: Path) -> None:
    found = compare(scenes(20), [POOL], protocol=PROTOCOLS["vaes4rs"], out=tmp_path)
    assert found.columns[0].title == "PSNR (batches of 16, vaes4rs)"
    index = open_store(tmp_path).index()
    assert index["id"] == [tile.id for tile in scenes(20).open().splits["train"].read(range(20))]
    errors = 255**2 * 10 ** (-np.array(index["psnr"], np.float64) / 10)
    batches = [10 * np.log10(255**2 / errors[part].mean()) for part in (slice(0, 16), slice(16, 20))]
    assert found.vaes[0].scores["psnr_batches_vaes4rs"].value == pytest.approx(float(np.mean(batches)))
    assert found.vaes[0].scores["ssim_vaes4rs"].value == found.vaes[0].quality["ssim_vaes4rs"].mean
    other = compare(scenes(20), [POOL], protocol=PROTOCOLS["vaes4rs"], batch_size=5)
    assert other.columns[0].title == "PSNR (batches of 5, vaes4rs)"
    assert other.vaes[0].scores["psnr_batches_vaes4rs"] != found.vaes[0].scores["psnr_batches_vaes4rs"]


def test_samples_repeat_with_their_seed_and_the_manifest_says_that_they_are_samples(tmp_path: Path) -> None:
    def built(name: str, seed: int = 0) -> Manifest:
        found = compare(scenes(8), [NOISY, POOL], protocol=PROTOCOLS["vaes4rs"], out=tmp_path / name, seed=seed)
        assert [vae.posterior for vae in found.vaes] == ["sample", "mean"]
        assert [vae.dtype for vae in found.vaes] == ["bfloat16", "bfloat16"]
        assert found.vaes[0].config == f"synthetic-noisy-vaes4rs{f'-seed{seed}' if seed else ''}"
        return Manifest.read(tmp_path / name / found.vaes[0].config)

    first, second, other = built("first"), built("second"), built("other", seed=1)
    assert first.posterior == "sample"
    assert first.splits == second.splits != other.splits
    assert built("first") == first
    assert "posterior sample" in (tmp_path / "first" / "README.md").read_text(encoding="utf-8")
    mean = compare(scenes(8), [NOISY]).vaes[0]
    assert mean.scores["psnr"].value is not None
    assert mean.scores["psnr"].value > (first.quality["psnr"].mean or 0) + 0.2


def test_pictures_for_the_study_s_fid_are_truncated() -> None:
    rounded: list[torch.Tensor] = []
    truncated: list[torch.Tensor] = []
    compare(scenes(4), [POOL], protocol=onlooking(rounded))
    compare(scenes(4), [POOL], protocol=onlooking(truncated, truncated=True))
    difference = rounded[1].int() - truncated[1].int()
    assert set(difference.flatten().tolist()) == {0, 1}
    assert 0.3 < float(difference.float().mean()) < 0.7


def test_truncated_pictures_find_their_originals_where_sizes_differ(tmp_path: Path) -> None:
    # All three are padded to 24x24, so they share a batch, but not a true size.
    photos = write_pictures(tmp_path / "photos", {"a.png": (24, 23), "b.png": (22, 24), "c.png": (24, 23)})
    rounded: list[torch.Tensor] = []
    truncated: list[torch.Tensor] = []
    compare(folder_source(str(photos)), [POOL], protocol=onlooking(rounded))
    compare(folder_source(str(photos)), [POOL], protocol=onlooking(truncated, truncated=True))
    assert [part.shape for part in rounded] == [part.shape for part in truncated]
    assert sum(len(part) for part in rounded) == 6
    for one, other in zip(rounded, truncated, strict=True):
        assert set((one.int() - other.int()).flatten().tolist()) <= {0, 1}


# Pictures and curves -------------------------------------------------------------------------------------------------


def test_pictures_are_the_prepared_ones_and_their_decode() -> None:
    found = compare(scenes(12), [POOL, OFFLINE], pictures=3, seed=1)
    assert len(found.originals) == 3
    truths = {tile.id: tile.pixels for tile in scenes(12).open().splits["train"].read(range(12))}
    for name, picture in found.originals.items():
        assert np.array_equal(picture, truths[name])
        blocks = picture.reshape(5, 8, 5, 8, 3).mean((1, 3)).repeat(8, 0).repeat(8, 1)
        assert np.abs(found.vaes[0].pictures[name] - blocks).max() <= 1
    assert found.vaes[1].pictures == {}
    assert list(compare(scenes(12), [NOISY], pictures=3, seed=1).originals) == list(found.originals)
    assert list(compare(scenes(12), [POOL], pictures=3, seed=2).originals) != list(found.originals)


def test_curves_are_of_the_same_pictures_as_the_points() -> None:
    found = compare(scenes(12), [POOL], encoders=[replace(ENCODERS["JPEG"], qualities=(20, 80))], protocol=onlooking())
    assert found.curve_pictures == 12
    assert found.originals == {}
    assert [metric.name for metric in found.rate_metrics] == ["psnr", "mae"]
    assert found.vaes[0].rate_scores["psnr"] == pytest.approx(found.vaes[0].quality["psnr"].mean, rel=1e-6)
    assert [point.quality for point in found.curves[0].points] == [20, 80]
    assert set(found.curves[0].points[0].scores) == {"psnr", "mae"}


def test_tiles_are_compared_too(tmp_path: Path) -> None:
    from latentstore import Preparation

    photos = write_pictures(tmp_path / "photos", {"a.png": (40, 60), "b.png": (33, 20)})
    found = compare(folder_source(str(photos)), [POOL], preparation=Preparation(tile=(16, 16)), pictures=2)
    assert found.rows == 3 * 4 + 3 * 2
    assert all("@r" in name for name in found.originals)


# What is refused -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_compared_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for vaes, changes, sentence in (
        ([], {}, "There is nothing to compare: name at least one VAE."),
        ([POOL, POOL], {}, "Two VAEs are named 'pool8': give one of the rows another name."),
        ([POOL], {"pictures": -1}, "Expected 0 or more pictures for the figure, found -1."),
        ([POOL], {"limit": 0}, "Expected a limit of 1 or more pictures"),
    ):
        with pytest.raises(RequestError, match=sentence):
            compare(scenes(4), vaes, **changes)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="There is no folder"):
        compare(folder_source(str(tmp_path / "missing")), [POOL])


def test_pictures_of_several_sizes_are_a_reason(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (16, 16), "b.png": (40, 16)})
    (vae,) = compare(folder_source(str(photos)), [POOL]).vaes
    assert vae.reason.startswith("The pictures of 'photos' have different sizes")
    assert "choose --resize SIDE --crop SIDE" in vae.reason
