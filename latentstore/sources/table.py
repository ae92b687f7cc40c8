"""The sources that are known by name, rows for any folder or Hub dataset, and what an opened source found.

What was checked, and how, on 2026-11-21 (the Hub itself was out of reach; stored copies of its pages were read):

    aid         card, file tree, licence "unknown", and the stray thumbnail.png at the top that makes a plain
                load_dataset() lose the labels: hence data_dir
    resisc45    card (data/<class>/<class>_<n>.jpg, 45 x 700, 256x256, licence "unknown"); that all files lie under
                data/ is what the card draws, the listing of data/ itself was not seen
    ucmerced    card with its features, 2,100 rows, one split, licence "unknown"; Parquet, so no data_dir
    eurosat     card and viewer: 16,200 / 5,400 / 5,400, names with spaces, a further column "filename"
    patternnet  viewer (30,400 rows, one split), file tree (Parquet), licence "unknown"; the features were not seen
    rsi_cb256   card in part (24,747 rows, licence "other"); that label_2 holds the 35 classes and label_1 their
                groups is what code that uses it says; there is no copy by blanchon

Not checked: image sizes beyond what the cards and papers say, and the number of classes of blanchon/PatternNet (38 is
the paper's). `ingest_report` says so when what is found differs.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstore.errors import SourceError, UntrustedError
from latentstore.named_table import NamedTable
from latentstore.sources.hub_images import open_hub_images
from latentstore.sources.image_folder import open_image_folder
from latentstore.sources.interface import SourceRow
from latentstore.sources.naming import printable
from latentstore.sources.sample import LIMIT, LIMIT_SEED, sample_of
from latentstore.sources.synthetic import open_synthetic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latentstore.manifest import Manifest, SourceInfo
    from latentstore.sources.interface import OpenSource

SOURCES: NamedTable[SourceRow] = NamedTable(
    "source",
    (
        SourceRow(
            name="synthetic",
            reader=open_synthetic,
            # how many there are and how large they are is asked for, so nothing is expected and no size stated
            options={"count": 128, "size": 256, "seed": 0},
            expected_classes=12,
            licence="Apache-2.0",
            citation="Drawn by latentstore.",
        ),
        SourceRow(
            name="aid",
            reader=open_hub_images,
            location="blanchon/AID",
            options={"data_dir": "data"},
            expected_images={"train": 10_000},
            expected_classes=30,
            citation=(
                "G.-S. Xia, J. Hu, F. Hu, B. Shi, X. Bai, Y. Zhong, L. Zhang, X. Lu. AID: A Benchmark Data Set for "
                "Performance Evaluation of Aerial Scene Classification. IEEE Transactions on Geoscience and Remote "
                "Sensing 55(7), 3965-3981, 2017."
            ),
            homepage="https://captain-whu.github.io/AID/",
            size=(600, 600),
        ),
        SourceRow(
            name="resisc45",
            reader=open_hub_images,
            location="blanchon/RESISC45",
            options={"data_dir": "data"},
            expected_images={"train": 31_500},
            expected_classes=45,
            citation=(
                "G. Cheng, J. Han, X. Lu. Remote Sensing Image Scene Classification: Benchmark and State of the Art. "
                "Proceedings of the IEEE 105(10), 1865-1883, 2017."
            ),
            homepage="https://gcheng-nwpu.github.io/#Datasets",
            size=(256, 256),
        ),
        SourceRow(
            name="ucmerced",
            reader=open_hub_images,
            location="blanchon/UC_Merced",
            expected_images={"train": 2_100},
            expected_classes=21,
            citation=(
                "Y. Yang, S. Newsam. Bag-of-Visual-Words and Spatial Extensions for Land-Use Classification. "
                "ACM SIGSPATIAL International Conference on Advances in Geographic Information Systems, 2010."
            ),
            homepage="http://weegee.vision.ucmerced.edu/datasets/landuse.html",
        ),
        SourceRow(
            name="eurosat",
            reader=open_hub_images,
            location="blanchon/EuroSAT_RGB",
            expected_images={"train": 16_200, "validation": 5_400, "test": 5_400},
            expected_classes=10,
            citation=(
                "P. Helber, B. Bischke, A. Dengel, D. Borth. EuroSAT: A Novel Dataset and Deep Learning Benchmark for "
                "Land Use and Land Cover Classification. IEEE Journal of Selected Topics in Applied Earth "
                "Observations and Remote Sensing 12(7), 2217-2226, 2019."
            ),
            homepage="https://github.com/phelber/EuroSAT",
            size=(64, 64),
        ),
        SourceRow(
            name="patternnet",
            reader=open_hub_images,
            location="blanchon/PatternNet",
            expected_images={"train": 30_400},
            expected_classes=38,
            citation=(
                "W. Zhou, S. Newsam, C. Li, Z. Shao. PatternNet: A Benchmark Dataset for Performance Evaluation of "
                "Remote Sensing Image Retrieval. ISPRS Journal of Photogrammetry and Remote Sensing 145, 197-209, 2018."
            ),
            homepage="https://sites.google.com/view/zhouwx/dataset",
            size=(256, 256),
        ),
        SourceRow(
            name="rsi_cb256",
            reader=open_hub_images,
            location="jonathan-roberts1/RSI-CB256",
            options={"label": "label_2"},
            expected_images={"train": 24_747},
            expected_classes=35,
            licence="other (for academic purposes)",
            citation=(
                "H. Li, X. Dou, C. Tao, Z. Wu, J. Chen, J. Peng, M. Deng, L. Zhao. RSI-CB: A Large-Scale Remote "
                "Sensing Image Classification Benchmark Using Crowdsourced Data. Sensors 20(6), 1594, 2020."
            ),
            homepage="https://github.com/lehaifeng/RSI-CB",
            size=(256, 256),
        ),
    ),
)


def folder_source(path: str | Path, **options: Any) -> SourceRow:
    """The row for a folder of images; options as in `image_folder`."""
    path = str(path)
    return SourceRow(name=_name(path), reader=open_image_folder, location=path, options=options)


def hub_source(repo: str, *, revision: str | None = None, **options: Any) -> SourceRow:
    """The row for a dataset on the Hub, ``user/name`` or ``user/name@revision``; options as in `hub_images`."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)@(.+)", repo)
    location, asked = (match[1], match[2]) if match else (repo, None)
    return SourceRow(
        name=_name(location), reader=open_hub_images, location=location, revision=revision or asked, options=options
    )


def _name(location: str) -> str:
    """The last part of the location as a name that can be part of a config's name."""
    last = posixpath.basename(posixpath.normpath(printable(location)))
    return re.sub(r"[^a-z0-9_]+", "-", last.casefold()).strip("-") or "images"


def ingest_report(row: SourceRow, opened: OpenSource) -> tuple[str, ...]:
    """What was found against what the publisher says, a sentence a split and one for the classes."""
    expected = row.expected_images or {}
    lines = [_images_line(name, len(reader), expected.get(name), row) for name, reader in opened.splits.items()]
    lines += [
        f"{name}: the split is missing; {count:,} images were expected."
        for name, count in expected.items()
        if name not in opened.splits and name in _asked(row, expected)
    ]
    return (*lines, _classes_line(len(opened.class_names or ()), row.expected_classes))


def _asked(row: SourceRow, expected: Iterable[str]) -> Iterable[str]:
    """The splits that the row wants; all where it does not choose."""
    asked: str | Iterable[str] = row.options.get("splits") or expected
    return (asked,) if isinstance(asked, str) else asked


def _images_line(split: str, found: int, expected: int | None, row: SourceRow) -> str:
    if expected is None:
        unknown = ", in a split that was not expected" if row.expected_images else ""
        return f"{split}: {found:,} image{'' if found == 1 else 's'}{unknown}."
    if found == expected:
        return f"{split}: {found:,} of {expected:,} expected images."
    return f"{split}: MISMATCH, {found:,} images, but {expected:,} were expected ({_difference(found, expected)})."


def _classes_line(found: int, expected: int | None) -> str:
    if expected is None:
        return f"{found:,} class{'' if found == 1 else 'es'}." if found else "No classes."
    if found == expected:
        return f"{found:,} of {expected:,} expected classes."
    return f"MISMATCH, {found or 'no'} classes, but {expected:,} were expected ({_difference(found, expected)})."


def _difference(found: int, expected: int) -> str:
    return f"{abs(found - expected):,} too {'many' if found > expected else 'few'}"


READERS = {reader.__name__: reader for reader in (open_image_folder, open_hub_images, open_synthetic)}
"""The readers that a manifest may name."""


def source_of(info: SourceInfo) -> SourceRow:
    """The row for the source that a manifest records, so that its pictures can be read again."""
    reader = READERS.get(info.reader)
    if reader is None:
        raise SourceError(f"Source {info.name!r} was read by {info.reader!r}, which is not part of latentstore.")
    known: SourceRow | None = SOURCES.get(info.name)
    # A folder may happen to be called like a row of the table.
    row = known if known is not None and known.reader is reader else SourceRow(name=info.name, reader=reader)
    options = dict(info.options)
    limit, seed = options.pop(LIMIT, None), options.pop(LIMIT_SEED, 0)
    if not isinstance(limit or 0, int) or not isinstance(seed, int):
        raise SourceError(
            f"Source {info.name!r} is a sample of {limit!r} pictures with seed {seed!r}: expected numbers."
        )
    row = replace(row, location=info.location, revision=info.revision, options=options)
    return row if limit is None else sample_of(row, limit, seed)


DRAWN_PICTURES, DRAWN_SIDE = 10_000, 2048
"""Scenes that a manifest may have counted where it has not as many rows, and pixels along their sides."""


def refuse_untrusted(manifest: Manifest) -> None:
    """UntrustedError unless the source that a manifest names is a row of the table, read from where that row reads.

    Anything else may be a folder of this machine, or a repository that learns who asks.
    """
    info = manifest.source
    row: SourceRow | None = SOURCES.get(info.name)
    commit = info.revision is None or re.fullmatch(r"[0-9a-f]{40}", info.revision)
    same = row is not None and (row.reader.__name__, row.location) == (info.reader, info.location)
    if row is None or not same or not (info.revision == row.revision if row.revision else commit):
        raise UntrustedError(
            f"The dataset names {info.location!r}{f' at {info.revision!r}' if info.revision else ''} as its source "
            f"{info.name!r}, which is no row of the table and is not opened unasked: give --source SOURCE (source=ROW "
            "in Python), or --trust (trust=True)."
        )
    if row.reader is open_synthetic:
        _refuse_endless(manifest, row)


def _refuse_endless(manifest: Manifest, row: SourceRow) -> None:
    """UntrustedError where drawing what a manifest asks for costs more than its rows are worth."""
    options = {**row.options, **manifest.source.options}
    count, size = options["count"], options["size"]
    sides = size if isinstance(size, (list, tuple)) else (size,)
    most = max(DRAWN_PICTURES, manifest.rows + len(manifest.build.skipped))
    if (
        not all(isinstance(number, int) for number in (count, *sides))
        or count > most
        or max(sides, default=0) > DRAWN_SIDE
    ):
        raise UntrustedError(
            f"The dataset names {count!r} scenes of {size!r} pixels as its source, which are not drawn unasked: "
            f"expected {most:,} with {DRAWN_SIDE:,} pixels a side at most; give --trust (trust=True in Python)."
        )
