"""A comparison as rows of text, as Markdown and as plain JSON; every mark and every missing number is explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentstore.card import ratio_in_words
from latentstore.comparison.published import CAVEATS, NUMBERS, PICTURES, STUDY, STUDY_SOURCE
from latentstore.comparison.rate_report import equal_quality_remarks, rate_json, rate_remarks, storage_table
from latentstore.comparison.text_table import NONE, TextTable, number
from latentstore.json_records import plain
from latentstore.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from latentstore.comparison.protocols import ColumnRow
    from latentstore.comparison.published import PublishedRow
    from latentstore.comparison.result import ComparedVae, Comparison

NOT_MEASURED = "not measured"
UNAVAILABLE = "unavailable"
OTHER_COUNT = "g"
"""The caveat of FID over another number of pictures."""
STORED_BYTES = (
    "All shards as they are on disk, with labels, ids, scores and the file's own structure, which weigh much where "
    "there are few or small pictures; raw RGB is 3 bytes a pixel."
)


def quality_table(comparison: Comparison, *, short: bool = True) -> TextTable:
    """One line a VAE, one column a metric of the protocol."""
    columns = tuple(f"{_heading(column, short=short)}>" for column in comparison.columns)
    rows = tuple((vae.vae, *_quality_cells(comparison, vae)) for vae in comparison.vaes)
    return TextTable("Quality", ("VAE", *columns), rows)


def cost_table(comparison: Comparison, *, spelled_out: bool = True) -> TextTable:
    """One line a VAE: what it takes to compute and to keep; ``spelled_out`` names the baseline in every ratio."""
    columns = ("VAE", "GFLOPs>", "latent>", "stored bytes>", "bits/pixel>", "against raw RGB>", "against source files>")
    rows = tuple((vae.vae, *_cost_cells(vae, spelled_out=spelled_out)) for vae in comparison.vaes)
    return TextTable("Cost and size", columns, rows)


def published_table(comparison: Comparison) -> TextTable | None:
    """The study's numbers, marked, each beside what was measured here; None where it has none for this source."""
    if not comparison.published:
        return None
    shown = [column for column in comparison.columns if column.published]
    columns = ["VAE"]
    for column in shown:
        columns += [f"{_word(column)}{_raised(_column_marks(comparison, column))}>", "here>"]
    rows = tuple(tuple(_published_cells(comparison, row, shown)) for row in comparison.published)
    return TextTable(f"Published by {STUDY}, beside what was measured here", tuple(columns), rows)


def sections(comparison: Comparison) -> list[tuple[str, list[tuple[str, str]]]]:
    """What stands below the tables, under headings: (mark or word, sentence); headings with nothing are left out."""
    found = [
        ("Missing", [*_missing(comparison)]),
        ("Bytes for the same quality", [*equal_quality_remarks(comparison)]),
        ("How it was measured", [*_setting(comparison), *_hows(comparison)]),
        ("What differs in the published numbers", [*_caveats(comparison)]),
    ]
    return [(heading, remarks) for heading, remarks in found if remarks]


def markdown(comparison: Comparison) -> str:
    """The whole comparison as Markdown: one table, the published one, that of storages, and the remarks as lists."""
    quality, cost = quality_table(comparison, short=False), cost_table(comparison, spelled_out=False)
    joined = [(*first[:1], *second[1:3], *first[1:], *second[3:]) for first, second in _lines(quality, cost)]
    lines = [f"## {_escaped(title(comparison))}", "", *_markdown_table(joined[0], joined[1:])]
    for table in (published_table(comparison), storage_table(comparison)):
        if table is not None:
            lines += ["", f"### {table.title}", "", *_markdown_table(table.columns, table.rows)]
    for heading, remarks in sections(comparison):
        lines += ["", f"### {heading}", "", *(f"- {_bold(mark)}{_escaped(text)}" for mark, text in remarks)]
    return "\n".join(lines) + "\n"


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything but the pixels, as plain JSON."""
    return {
        "source": {
            "name": comparison.source,
            "location": comparison.location,
            "revision": comparison.revision,
            "options": plain(comparison.options),
            "pictures": comparison.available,
            "limit": comparison.limit,
        },
        "protocol": {
            "name": comparison.protocol.name,
            "summary": comparison.protocol.summary,
            "posterior": comparison.protocol.posterior,
            "order": comparison.protocol.order,
            "batch_size": comparison.batch_size,
            "seed": comparison.seed,
            "departs": list(comparison.protocol.departs),
        },
        "preparation": plain(comparison.preparation),
        "ok": comparison.ok,
        "out": None if comparison.out is None else str(comparison.out),
        "columns": [_column_json(comparison, column) for column in comparison.columns],
        "vaes": [_vae_json(vae) for vae in comparison.vaes],
        "published": _published_json(comparison),
        "rate": rate_json(comparison),
    }


def title(comparison: Comparison) -> str:
    """What was compared on what."""
    pictures = f"{comparison.rows:,} picture{'' if comparison.rows == 1 else 's'}"
    drawn = f", drawn with seed {comparison.seed}" if comparison.limit is not None else ""
    count = len(comparison.vaes)
    return f"{count} VAE{'' if count == 1 else 's'} on {pictures} of {comparison.source}{drawn}"


# Cells ---------------------------------------------------------------------------------------------------------------


def _heading(column: ColumnRow, *, short: bool) -> str:
    text = column.short if short else column.title
    return f"{text}, {column.unit}" if column.unit else text


def _quality_cells(comparison: Comparison, vae: ComparedVae) -> list[str]:
    if not vae.measured:
        return [NOT_MEASURED, *[NONE] * (len(comparison.columns) - 1)]
    return [_score_cell(vae, column) for column in comparison.columns]


def _score_cell(vae: ComparedVae, column: ColumnRow) -> str:
    score = vae.scores[column.name]
    return UNAVAILABLE if score.value is None else number(score.value, column.digits)


def _cost_cells(vae: ComparedVae, *, spelled_out: bool) -> list[str]:
    gflops = number(vae.gflops_256, 2)
    if vae.size is None or vae.latent_shape is None:
        return [gflops, NONE, NOT_MEASURED, *[NONE] * 3]
    source = vae.size.source_over_stored
    raw_rgb, files = (" than raw RGB", " than the source files") if spelled_out else ("", "")
    return [
        gflops,
        "x".join(map(str, vae.latent_shape)),
        f"{vae.size.stored_bytes:,}",
        f"{vae.size.bits_per_pixel:.2f}",
        ratio_in_words(vae.size.raw_rgb_over_stored) + raw_rgb,
        "no source files" if source is None else ratio_in_words(source) + files,
    ]


def _published_cells(comparison: Comparison, row: PublishedRow, columns: list[ColumnRow]) -> Iterator[str]:
    yield row.vae
    ours = next((vae for vae in comparison.vaes if vae.vae in row.names and vae.measured), None)
    for column in columns:
        value = row.number(column.published)
        # As many digits as were published: more would be invented.
        digits = 2 if column.published in ("psnr", "fid") else 3
        mark = (row.marks or {}).get(column.published, "")
        yield f"{number(value, digits)}{_raised(mark)}"
        yield NONE if ours is None else number(ours.scores[column.name].value, column.digits)


def _word(column: ColumnRow) -> str:
    return {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "fid": "FID"}[column.published]


def _column_marks(comparison: Comparison, column: ColumnRow) -> str:
    other = comparison.rows != PICTURES.get(comparison.source, comparison.rows)
    return column.marks + (OTHER_COUNT if other and column.published == "fid" else "")


def _raised(marks: str) -> str:
    return f"[{','.join(marks)}]" if marks else ""


# Remarks -------------------------------------------------------------------------------------------------------------


def _missing(comparison: Comparison) -> Iterator[tuple[str, str]]:
    for vae in comparison.vaes:
        if not vae.measured:
            yield f"{vae.vae} not measured", vae.reason
    for column in comparison.columns:
        if column.name in comparison.unavailable:
            yield f"{column.short} unavailable", comparison.unavailable[column.name]
            continue
        for vae in comparison.vaes:
            score = vae.scores.get(column.name)
            if score is not None and score.value is None:
                yield f"{column.short} unavailable", f"For {vae.vae}: {score.missing}."
    for curve in comparison.curves:
        if curve.missing:
            yield f"{curve.encoder} not drawn", f"{curve.missing}."


def _setting(comparison: Comparison) -> Iterator[tuple[str, str]]:
    protocol = comparison.protocol
    yield "protocol", f"{protocol.name}: {protocol.summary}; batches of {comparison.batch_size}."
    for sentence in protocol.departs:
        yield "not as there", sentence
    if comparison.limit is not None:
        drawn = f"{comparison.available:,} pictures, drawn with seed {comparison.seed}"
        yield "sample", f"{drawn}: another seed gives other numbers."
    for group, names in _computed(comparison).items():
        yield "computed", f"{', '.join(names)}: {group}."
    for vae in comparison.vaes:
        if vae.skipped:
            yield "skipped", f"{vae.vae}: {vae.skipped:,} pictures could not be used."


def _computed(comparison: Comparison) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for vae in comparison.vaes:
        if vae.measured:
            drawn = f"a posterior sample with seed {comparison.seed}" if vae.posterior == "sample" else "the mean"
            found.setdefault(f"on {vae.device} in {vae.dtype}, from {drawn}", []).append(vae.vae)
    return found


def _hows(comparison: Comparison) -> Iterator[tuple[str, str]]:
    for column in comparison.columns:
        yield column.short, column.how
        warnings = [warning for vae in comparison.vaes for warning in _warnings(vae, column)]
        for warning in dict.fromkeys(warnings):
            yield "", warning
    yield "GFLOPs", "Of encoding and decoding one picture of 256x256, a multiply-add being two; '-' where not counted."
    yield "stored bytes", STORED_BYTES
    yield from rate_remarks(comparison)


def _warnings(vae: ComparedVae, column: ColumnRow) -> tuple[str, ...]:
    score = vae.scores.get(column.name)
    return score.warnings if score is not None else ()


def _caveats(comparison: Comparison) -> Iterator[tuple[str, str]]:
    if not comparison.published:
        return
    yield STUDY, STUDY_SOURCE + "."
    marks = set("".join(_column_marks(comparison, column) for column in comparison.columns if column.published))
    marks |= {mark for row in comparison.published for mark in (row.marks or {}).values()}
    for mark in sorted(marks):
        yield f"[{mark}]", CAVEATS[mark]


# Markdown ------------------------------------------------------------------------------------------------------------


def _lines(first: TextTable, second: TextTable) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    yield first.columns, second.columns
    yield from zip(first.rows, second.rows, strict=True)


def _markdown_table(columns: tuple[str, ...], rows: Any) -> list[str]:
    rule = ["---:" if column.endswith(">") else "---" for column in columns]
    lines = [[column.removesuffix(">") for column in columns], rule, *rows]
    return ["| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines]


def _escaped(text: str) -> str:
    # Underscores inside words mean nothing in GitHub's Markdown, and an escape would break addresses.
    return (
        printable(" ".join(text.split()))
        .replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("<", "&lt;")
        .replace("*", "\\*")
    )


def _bold(mark: str) -> str:
    return f"**{_escaped(mark)}**: " if mark else ""


# JSON ----------------------------------------------------------------------------------------------------------------


def _column_json(comparison: Comparison, column: ColumnRow) -> dict[str, Any]:
    return {
        "name": column.name,
        "title": column.title,
        "unit": column.unit or None,
        "higher_is_better": column.higher_is_better,
        "how": column.how,
        "beside": column.published or None,
        "unavailable": comparison.unavailable.get(column.name),
    }


def _vae_json(vae: ComparedVae) -> dict[str, Any]:
    return {
        "name": vae.vae,
        "measured": vae.measured,
        "reason": vae.reason or None,
        "summary": vae.summary,
        "channels": vae.channels,
        "stride": vae.stride,
        "parameters": vae.parameters,
        "gflops_256": vae.gflops_256,
        "config": vae.config or None,
        "latent_shape": None if vae.latent_shape is None else list(vae.latent_shape),
        "posterior": vae.posterior or None,
        "device": vae.device or None,
        "dtype": vae.dtype or None,
        "pictures": vae.rows,
        "skipped": vae.skipped,
        "scores": {name: {**plain(score), "missing": score.missing or None} for name, score in vae.scores.items()},
        "size": plain(vae.size),
        "quality": plain(vae.quality),
    }


def _published_json(comparison: Comparison) -> dict[str, Any] | None:
    if not comparison.published:
        return None
    return {
        "study": STUDY,
        "source": STUDY_SOURCE,
        "pictures": PICTURES[comparison.source],
        "column_marks": {
            column.published: list(_column_marks(comparison, column))
            for column in comparison.columns
            if column.published
        },
        "rows": [
            {
                "vae": row.vae,
                "names": list(row.names),
                **{name: row.number(name) for name in NUMBERS},
                "marks": dict(row.marks or {}),
            }
            for row in comparison.published
        ],
        "caveats": {mark.strip("[]"): sentence for mark, sentence in _caveats(comparison) if mark != STUDY},
    }
