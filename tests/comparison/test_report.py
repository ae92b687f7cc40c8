"""A comparison as text, Markdown and JSON: nothing is lost on the way, and nothing is left unexplained."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from noisy import NOISY
from scenes import scenes

from latentstore import METRICS, PROTOCOLS, STORAGES, VAES, Comparison, VaeRow, compare
from latentstore.comparison.equal_quality import equal_qualities
from latentstore.comparison.published import CAVEATS, STUDY_SOURCE
from latentstore.comparison.rate_curves import ENCODERS
from latentstore.comparison.rate_report import storage_table
from latentstore.comparison.report import (
    cost_table,
    markdown,
    published_table,
    quality_table,
    sections,
    title,
    to_json,
)
from latentstore.comparison.text_table import number
from latentstore.errors import VaeError
from latentstore.vaes.interface import LoadOptions, Vae


def offline(_: VaeRow, __: LoadOptions) -> Vae:
    raise VaeError("The Hub | cannot be reached.")


POOL, OFFLINE = VAES["pool8"], replace(VAES["pool8"], name="offline", family=offline)
SDXL = replace(NOISY, name="sdxl")
RESISC = replace(scenes(6), name="resisc45")


@pytest.fixture(scope="module")
def found() -> Comparison:
    encoders = [replace(ENCODERS["JPEG"], qualities=(50,)), replace(ENCODERS["AVIF"], name="AVIG", feature="avig")]
    return compare(RESISC, [SDXL, OFFLINE], limit=5, encoders=encoders)


@pytest.fixture(scope="module")
def study() -> Comparison:
    return compare(RESISC, [SDXL, POOL], protocol=PROTOCOLS["vaes4rs"])


def tables_of(text: str) -> list[list[list[str]]]:
    """Every Markdown table of a text, as cells."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    split = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in line] for line in table] for table in split]


def test_every_vae_has_a_line_and_every_column_a_number(found: Comparison) -> None:
    quality, cost = quality_table(found), cost_table(found)
    assert quality.columns == ("VAE", "PSNR, dB>", "PSNR pooled, dB>", "SSIM>", "LPIPS>", "rFID>")
    sdxl = found.vaes[0]
    assert sdxl.size is not None
    assert quality.rows[0] == (
        "sdxl",
        f"{sdxl.scores['psnr'].value:.2f}",
        f"{sdxl.scores['psnr_pooled'].value:.2f}",
        f"{sdxl.scores['ssim'].value:.4f}",
        "unavailable",
        "unavailable",
    )
    assert quality.rows[1] == ("offline", "not measured", "-", "-", "-", "-")
    assert cost.rows[0][:5] == (
        "sdxl",
        "0.00",
        "3x5x5",
        f"{sdxl.size.stored_bytes:,}",
        f"{sdxl.size.bits_per_pixel:.2f}",
    )
    assert cost.rows[0][5].endswith("than raw RGB")
    assert cost.rows[0][6] == "no source files"
    assert cost.rows[1] == ("offline", "0.00", "-", "not measured", "-", "-", "-")


def test_what_is_missing_says_why(found: Comparison) -> None:
    missing = dict(dict(sections(found))["Missing"])
    assert missing["offline not measured"] == "The Hub | cannot be reached."
    assert "alexnet-owt-7be5be79.pth" in missing["LPIPS unavailable"]
    assert "pt_inception-2015-12-05-6726825d.pth" in missing["rFID unavailable"]
    assert missing["AVIG not drawn"].startswith("this Pillow was built without AVIG")


def test_every_column_says_how_it_was_measured(found: Comparison, study: Comparison) -> None:
    for comparison in (found, study):
        how = dict(dict(sections(comparison))["How it was measured"])
        assert all(how[column.short] == column.how for column in comparison.columns)
        assert "{" not in "".join(how.values())
    assert dict(dict(sections(found))["How it was measured"])["sample"].startswith("5 pictures, drawn with seed 0")
    computed = [text for mark, text in dict(sections(study))["How it was measured"] if mark == "computed"]
    assert computed == [
        "sdxl: on cpu in bfloat16, from a posterior sample with seed 0.",
        "pool8: on cpu in bfloat16, from the mean.",
    ]


def test_published_numbers_stand_beside_ours_and_are_marked(found: Comparison) -> None:
    table = published_table(found)
    assert table is not None
    words = ["PSNR[a]>", "here>", "SSIM[d]>", "here>", "LPIPS[e]>", "here>", "FID[f,g]>", "here>"]
    assert list(table.columns) == ["VAE", *words]
    rows = {row[0]: row for row in table.rows}
    scores = found.vaes[0].scores
    assert rows["SDXL"] == (
        *("SDXL", "25.83", f"{scores['psnr'].value:.2f}", "0.692", f"{scores['ssim'].value:.4f}"),
        *("0.098", "-", "4.98", "-"),
    )
    assert rows["FLUX2"][1] == "33.42[c]"
    assert rows["Qwen"][-2] == "9.51[h]"
    assert rows["FLUX1"][3] == "-"  # no SSIM was published
    explained = dict(sections(found))["What differs in the published numbers"]
    assert explained[0] == ("VAEs4RS", f"{STUDY_SOURCE}.")
    assert [mark for mark, _ in explained[1:]] == ["[a]", "[c]", "[d]", "[e]", "[f]", "[g]", "[h]"]


def test_the_study_s_own_protocol_leaves_fewer_marks(study: Comparison) -> None:
    table = published_table(study)
    assert table is not None
    assert table.columns[1::2] == ("PSNR[b]>", "SSIM>", "LPIPS>", "FID[g]>")
    marks = [mark for mark, _ in dict(sections(study))["What differs in the published numbers"][1:]]
    assert marks == ["[b]", "[c]", "[g]", "[h]"]


def test_other_sources_have_nothing_published() -> None:
    other = compare(scenes(2), [POOL])
    assert published_table(other) is None
    assert to_json(other)["published"] is None
    assert "What differs in the published numbers" not in dict(sections(other))
    assert title(other) == "1 VAE on 2 pictures of synthetic"


def test_markdown_holds_every_cell_of_the_tables(found: Comparison) -> None:
    text = markdown(found)
    first, published = tables_of(text)
    assert text.startswith("## 2 VAEs on 5 pictures of resisc45, drawn with seed 0\n")
    assert {len(line) for line in first} == {12}
    assert first[0][:4] == ["VAE", "GFLOPs", "latent", "PSNR (mean of pictures), dB"]
    assert all(re.fullmatch(r"-+:?", cell) for cell in first[1])
    cells = dict(zip(first[0], first[2], strict=True))
    assert cells["PSNR (mean of pictures), dB"] == quality_table(found).rows[0][1]
    assert cells["stored bytes"] == cost_table(found).rows[0][3]
    assert first[3][0] == "offline"
    table = published_table(found)
    assert table is not None
    assert published[2:] == [list(row) for row in table.rows]
    assert "- **offline not measured**: The Hub \\| cannot be reached." in text
    assert all(f"- **[{mark}]**: {CAVEATS[mark]}\n" in text for mark in "adefg")


def test_the_study_s_columns_cannot_be_taken_for_ours(found: Comparison, study: Comparison) -> None:
    ours, theirs = (tables_of(markdown(comparison))[0][0] for comparison in (found, study))
    assert "PSNR (batches of 16, vaes4rs), dB" in theirs
    assert set(ours) & set(theirs) == {column.removesuffix(">") for column in cost_table(found).columns}


def test_json_says_everything(found: Comparison) -> None:
    data = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert data["ok"] is False
    assert data["source"] == {
        "name": "resisc45",
        "location": "",
        "revision": None,
        "options": {"count": 6, "size": 40, "limit": 5, "limit_seed": 0},
        "pictures": 5,
        "limit": 5,
    }
    assert [column["name"] for column in data["columns"]] == ["psnr", "psnr_pooled", "ssim", "lpips", "rfid"]
    assert "alexnet" in data["columns"][3]["unavailable"]
    sdxl, other = data["vaes"]
    assert sdxl["scores"]["psnr"]["value"] == found.vaes[0].scores["psnr"].value
    assert sdxl["scores"]["lpips"]["value"] is None
    assert "alexnet" in sdxl["scores"]["lpips"]["missing"]
    assert sdxl["size"]["stored_bytes"] == found.vaes[0].size.stored_bytes  # type: ignore[union-attr]
    assert sdxl["quality"]["mae"]["mean"] == found.vaes[0].quality["mae"].mean
    assert (other["measured"], other["reason"], other["size"]) == (False, "The Hub | cannot be reached.", None)
    assert data["published"]["column_marks"] == {"psnr": ["a"], "ssim": ["d"], "lpips": ["e"], "fid": ["f", "g"]}
    assert data["published"]["rows"][1]["psnr"] == 25.83
    assert set(data["published"]["caveats"]) == set("acdefgh")
    jpeg, avig = data["rate"]["encoders"]
    assert jpeg["points"][0]["scores"].keys() == {"psnr"}
    assert avig["points"] == []
    assert data["rate"]["vaes"]["sdxl"]["scores"]["psnr"] == found.vaes[0].rate_scores["psnr"]


# Storages ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored() -> Comparison:
    encoders = [replace(ENCODERS["JPEG"], qualities=(1, 30))]
    return compare(RESISC, [SDXL, OFFLINE], encoders=encoders, storages=list(STORAGES.values()))


def test_every_storage_has_a_line_and_every_number_its_digits(stored: Comparison) -> None:
    table = storage_table(stored)
    assert table is not None
    assert table.title == "Storages, on 6 pictures"
    assert table.columns == (
        *("VAE", "storage", "step>", "latent bits/pixel>", "entropy bits/pixel>"),
        *("PSNR, dB>", "dB lost>"),
    )
    points = stored.vaes[0].storages
    assert [row[:3] for row in table.rows] == [
        ("sdxl", point.storage, f"1/{round(1 / point.step)}" if point.step else "-") for point in points
    ]
    assert table.rows[0][3:] == (
        f"{points[0].bits_per_pixel:.3f}",
        f"{points[0].entropy_bits_per_pixel:.3f}",
        f"{points[0].scores['psnr']:.2f}",
        f"{points[0].loss_db:.3f}",
    )
    markdown_table = tables_of(markdown(stored))[-1]
    assert markdown_table[2:] == [list(row) for row in table.rows]
    assert "### Storages, on 6 pictures\n" in markdown(stored)


def test_a_perceptual_metric_stands_after_the_loss(stored: Comparison) -> None:
    with_mae = replace(
        stored,
        rate_metrics=(*stored.rate_metrics, METRICS["mae"]),
        vaes=tuple(
            replace(
                vae,
                storages=tuple(replace(point, scores={**point.scores, "mae": 0.0125}) for point in vae.storages),
            )
            for vae in stored.vaes
        ),
        curves=(),
    )
    table = storage_table(with_mae)
    assert table is not None
    assert table.columns[-2:] == ("dB lost>", "MAE>")
    assert {row[-1] for row in table.rows} == {"0.0125"}


def test_the_sentences_and_the_json_say_what_the_same_quality_costs(stored: Comparison) -> None:
    remarks = dict(sections(stored))
    (found,) = equal_qualities(stored)
    assert remarks["Bytes for the same quality"] == [("sdxl", found.sentence())]
    assert found.sentence() in markdown(stored).replace("&lt;", "<")
    how = dict(remarks["How it was measured"])
    assert "column `latent` alone in a compact Parquet shard" in how["storages"]
    assert "rate figure" not in how
    data = json.loads(json.dumps(to_json(stored), allow_nan=False))["rate"]
    assert data["equal_quality"][0]["sentence"] == found.sentence()
    assert data["equal_quality"][0]["metric"] == "psnr"
    assert set(data["vaes"]) == {"sdxl"}
    for point, measured in zip(data["vaes"]["sdxl"]["storages"], stored.vaes[0].storages, strict=True):
        assert point == {
            "storage": measured.storage,
            "step": measured.step,
            "latent_bytes": measured.latent_bytes,
            "bits_per_pixel": measured.bits_per_pixel,
            "entropy_bits_per_pixel": measured.entropy_bits_per_pixel,
            "scores": dict(measured.scores),
            "loss_db": measured.loss_db,
            "widened": list(measured.widened),
        }


def test_wider_steps_are_told(stored: Comparison) -> None:
    vae = stored.vaes[0]
    wide = replace(vae, storages=(*vae.storages[:-1], replace(vae.storages[2], widened=(0, 2))))
    how = dict(dict(sections(replace(stored, vaes=(wide,))))["How it was measured"])
    assert how["wider steps"] == "Channels of sdxl that reach beyond 127 steps and got wider ones: 2 (int8, step 1/4)."


def test_without_storages_nothing_is_said_of_them(found: Comparison) -> None:
    assert storage_table(found) is None
    assert "Storages" not in markdown(found)
    assert "Bytes for the same quality" not in dict(sections(found))
    assert to_json(found)["rate"]["equal_quality"] == []
    assert "everything that was stored" in dict(dict(sections(found))["How it was measured"])["rate figure"]


def test_numbers_as_people_read_them() -> None:
    assert [number(1234.5678, 2), number(0.12345, 4), number(None, 2), number(float("inf"), 2)] == [
        "1,234.57",
        "0.1235",
        "-",
        "-",
    ]
