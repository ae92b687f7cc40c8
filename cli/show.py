"""`latentstore show`: the manifest as tables, and the sentences about a manifest that other commands use too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import json_option, location_argument
from .output import Page, note, print_json, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from latentstore import LatentStore, Manifest
    from latentstore.manifest import AppendInfo, ChannelNumbers
    from latentstore.quality import MetricSummary

NONE = "-"
"""What stands where there is no number."""


@click.command("show", short_help="Show contract, quality and sizes of a dataset.")
@location_argument
@json_option
def command(location: str, config: str | None, *, as_json: bool) -> None:
    """What a latent dataset is, how good it is, and what it takes: its manifest as tables.

    LOCATION is the folder of a repository, or of one config in it: a folder of this machine, user/repo[@revision] on
    the Hub (hub:user/repo where a folder is called so), or a URL. Nothing but the manifest is read; whether the files
    agree with it is what `latentstore verify` checks.

    \b
    Examples:
      latentstore show out
      latentstore show user/repo
      latentstore show out --config synthetic-demo
      latentstore show out --json | jq .quality.psnr.mean
    """
    from latentstore.json_records import plain

    names = configs_at(location, config)
    manifests = [store.manifest for store in _stores(location, names)]
    if as_json:
        found = [plain(manifest) for manifest in manifests]
        print_json(found[0] if len(found) == 1 else found)
        return
    page = Page()
    for manifest in manifests:
        _sections(page, manifest)
    page.print()


def configs_at(location: str, config: str | None) -> list[str | None]:
    """The configs to look at: the named one, or all at the location; ``[None]`` where the library has to find it."""
    from latentstore.locations import LocalFolder, location_of
    from latentstore.manifest.names import JOURNAL
    from latentstore.opening import sealed_configs

    if config is not None:
        return [config]
    where = location_of(location)
    sealed = sealed_configs(location)
    if not isinstance(where, LocalFolder):
        return [*sealed] or [None]
    root = where.path
    begun = {path.parent.name for path in root.glob(f"*/{JOURNAL}")}
    for name in sorted(begun.difference(sealed)) if sealed else ():
        note(f"Left out, because it is not complete: {name}. The command that began it also finishes it.")
    return [*sealed] or [None]


def _stores(location: str, names: list[str | None]) -> Iterator[LatentStore]:
    from latentstore import open_store

    return (open_store(location, name) for name in names)


# Sentences about a manifest ------------------------------------------------------------------------------------------


def counted_splits(manifest: Manifest) -> str:
    """``1,680 train, 420 test``."""
    return ", ".join(f"{split.rows:,} {name}" for name, split in manifest.splits.items())


def score(value: float | None, unit: str) -> str:
    """A score as people write it: two digits of decibels, four of anything between 0 and 1."""
    if value is None:
        return NONE
    return f"{value:.2f} {unit}" if unit else f"{value:.4f}"


def quality_pairs(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """One line a metric."""
    for metric in manifest.quality.values():
        if metric.n:
            bad_end = (metric.p5, "5th") if metric.higher_is_better else (metric.p95, "95th")
            numbers = [(metric.mean, "mean"), (metric.median, "median"), (bad_end[0], f"{bad_end[1]} percentile")]
            text = ", ".join(f"{score(number, metric.unit)} {name}" for number, name in numbers)
        else:
            text = "no picture has a finite score"
        apart = [
            f"{count:,} {what}"
            for count, what in ((metric.identical, "without any loss"), (metric.undefined, "too small to be measured"))
            if count
        ]
        yield metric.title, f"{text}; counted apart: {', '.join(apart)}" if apart else text


def size_sentence(manifest: Manifest) -> str:
    """Stored bytes, with every ratio's baseline in words."""
    from latentstore.card import bits_in_words, ratio_in_words

    size = manifest.size
    share = size.thumbnail_bytes / size.stored_bytes
    pictures = "" if not share else f", {share:.1%} of them thumbnails" if share <= 1 else ", equal thumbnails once"
    text = (
        f"{size.stored_bytes:,} bytes stored{pictures}, {bits_in_words(manifest)}; "
        f"{ratio_in_words(size.raw_rgb_over_stored)} than raw RGB"
    )
    if size.source_over_stored is None:
        return f"{text}; the source has no files to compare with"
    return f"{text}, {ratio_in_words(size.source_over_stored)} than the source files"


def step_in_words(step: float) -> str:
    """``1/16`` where the step is one over a whole number, else its digits."""
    parts = round(1 / step)
    return f"1/{parts}" if abs(1 / step - parts) < 1e-9 else f"{step:.4g}"


def storage_pairs(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """How numbers were quantised, and what storing cost, where that is known."""
    storage = manifest.storage
    if storage.step_sigma is not None and storage.steps is not None:
        widened = storage.calibration.widened if storage.calibration is not None else ()
        larger = f"; larger in {len(widened)} of {len(storage.steps)} channels" if widened else ""
        yield "steps", f"{step_in_words(storage.step_sigma)} of each channel's standard deviation{larger}"
        clipped = sum(storage.clipped or ())
        numbers = manifest.size.payload_bytes
        yield "", f"{clipped:,} of {numbers:,} numbers beyond 127 steps"
    if storage.measured_loss_db is not None:
        yield "storing", f"{_outcome(storage.measured_loss_db, storage.budget_db)}"


def _outcome(loss: float, budget: float | None) -> str:
    text = f"cost {loss:.4f} dB of mean PSNR against unrounded latents"
    if budget is None:
        return text
    return f"{text}, {'within' if loss <= budget else 'OVER'} the budget of {budget:g} dB"


def duplicate_pairs(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Pictures that are byte for byte the same, where there are any."""
    from latentstore.duplicates import duplicates_sentence

    sentence = duplicates_sentence(manifest.build.duplicates)
    if sentence:
        yield "duplicates", sentence


def skipped_pairs(manifest: Manifest, *, paths: int, reasons: int | None = None) -> list[tuple[str, str]]:
    """How many pictures are left out, then each kind of reason with its count, one reason and the first paths."""
    from latentstore.quarantine import by_kind

    skipped = manifest.build.skipped
    if not skipped:
        return [("skipped", "no picture")]
    kinds = by_kind(skipped)
    pairs = [("skipped", f"{len(skipped):,} picture{'' if len(skipped) == 1 else 's'}")]
    for entries in kinds[:reasons]:
        differing = len({entry.reason for entry in entries}) > 1
        reason = f"such as: {entries[0].reason}" if differing else entries[0].reason
        where = ", ".join(shown(entry.source_path) for entry in entries[:paths])
        more = f" and {len(entries) - paths:,} more" if len(entries) > paths else ""
        pairs.append(("", f"{len(entries):,}: {reason} ({where}{more})"))
    if reasons is not None and len(kinds) > reasons:
        pairs.append(("", f"and {len(kinds) - reasons:,} more kinds of reasons: latentstore show"))
    return pairs


# The sections of `show` ----------------------------------------------------------------------------------------------


def _sections(page: Page, manifest: Manifest) -> None:
    page.heading(manifest.config)
    page.pairs([*_contract(manifest)])
    page.heading("Quality, measured from the stored numbers")
    _quality(page, manifest)
    page.heading("Size")
    _sizes(page, manifest)
    _calibration(page, manifest)
    page.heading("Latents, channel by channel")
    _channels(page, manifest)
    page.heading("Splits and shards")
    rows = [
        [name if number == 0 else "", shard.path, f"{shard.rows:,}", f"{shard.bytes:,}", shard.sha256[:12]]
        for name, split in manifest.splits.items()
        for number, shard in enumerate(split.shards)
    ]
    page.table(["split", "shard", "rows>", "bytes>", "sha256"], rows)
    page.heading("How it was built")
    page.pairs([*_build(manifest)])


def _contract(manifest: Manifest) -> Iterator[tuple[str, str]]:
    from latentstore.normalisation import KINDS

    channels, height, width = manifest.latent_shape
    source, vae, storage, normal = manifest.source, manifest.vae, manifest.storage, manifest.normalisation
    yield "format", manifest.format_version
    yield "rows", counted_splits(manifest)
    revision = f" at revision {source.revision}" if source.revision else ""
    yield "source", f"{source.name}{f' from {source.location}' if source.location else ''}{revision}"
    yield "", f"{_classes(manifest)}; licence: {source.licence or 'not stated'}"
    for sentence in (*source.ingest, *source.notes):
        yield "", sentence
    weights = f"weights sha256 {vae.weights_sha256[:12]}…" if vae.weights_sha256 else "no weights"
    where = "/".join(part for part in (vae.repo or "", vae.subfolder) if part)
    yield "VAE", f"{vae.name} ({vae.class_name}{f' from {where}' if where else ''}), {weights}, licence: {vae.licence}"
    yield "", f"{vae.channels} channels, stride {vae.stride}{f', revision {vae.revision}' if vae.revision else ''}"
    yield "latent", f"{channels}x{height}x{width}, posterior {manifest.posterior}, stored raw (unscaled)"
    model_shape = normal.model_shape(manifest.latent_shape)
    yield "storage", f"{storage.name} in {storage.container}, layout {storage.layout}"
    yield from ((name, text) for name, text in storage_pairs(manifest))
    for step in storage.converted:
        kept = "no number changed" if step.lossless else "numbers were rounded"
        measured = "" if step.lossless else "; measured again" if step.measured else "; NOT measured again"
        yield "", f"converted from {step.storage} in {step.container}, layout {step.layout}: {kept}{measured}"
    yield "model space", f"{normal.kind}: {KINDS[normal.kind].formula}{_numbers(manifest)}"
    if model_shape != manifest.latent_shape:
        joined = f"{normal.patch}x{normal.patch} cells joined into channels"
        yield "", f"{'x'.join(map(str, model_shape))}: {joined}, {len(normal.mean)} means and stds"
    yield "prepared", _preparation(manifest)
    views = manifest.preparation.views
    if views:
        yield "views", f"{', '.join(views)}: so many rows a picture, each encoded from the transformed pixels"
    if manifest.columns:
        yield "columns", ", ".join(manifest.columns)


def _classes(manifest: Manifest) -> str:
    classes = manifest.source.classes
    if classes is None:
        return "no classes"
    more = f", … ({len(classes) - 6} more)" if len(classes) > 6 else ""
    return f"{len(classes)} classes: {', '.join(classes[:6])}{more}"


def _numbers(manifest: Manifest) -> str:
    """The numbers of the formula that are single ones."""
    from latentstore.normalisation import KINDS

    normal = manifest.normalisation
    formula = KINDS[normal.kind].formula
    shown = [f"{name} {getattr(normal, name):g}" for name in ("scale", "shift") if name in formula]
    return f", {', '.join(shown)}" if shown else ""


def _preparation(manifest: Manifest) -> str:
    preparation = manifest.preparation
    steps = [
        f"{name} {'x'.join(map(str, sides))}"
        for name, sides in (("resize", preparation.resize), ("crop", preparation.crop), ("tile", preparation.tile))
        if sides is not None
    ]
    return f"{', '.join(steps) or 'as they are'}; padded to whole latent cells by {preparation.pad}"


def _quality(page: Page, manifest: Manifest) -> None:
    if not manifest.quality:
        page.line("  not measured")
        return
    columns = ["metric", "n>", "mean>", "median>", "p5>", "p95>", "pooled>", "identical>", "undefined>"]
    page.table(columns, [_quality_row(metric) for metric in manifest.quality.values()])
    page.pairs([pair for metric in manifest.quality.values() for pair in _worst(metric)])


def _quality_row(metric: MetricSummary) -> list[str]:
    numbers = [metric.mean, metric.median, metric.p5, metric.p95, metric.pooled]
    shown = [score(number, metric.unit).removesuffix(metric.unit).strip() for number in numbers]
    title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
    return [title, f"{metric.n:,}", *shown, f"{metric.identical:,}", f"{metric.undefined:,}"]


def _worst(metric: MetricSummary) -> Iterator[tuple[str, str]]:
    if not metric.n:
        return
    by_score = sorted(metric.per_class.items(), key=lambda pair: pair[1], reverse=not metric.higher_is_better)
    if by_score:
        listed = ", ".join(f"{name} {score(mean, metric.unit)}" for name, mean in by_score[:3])
        yield f"worst {metric.title}", f"classes: {listed}"
    yield ("" if by_score else f"worst {metric.title}"), f"pictures: {', '.join(metric.worst[:3])}"


def _sizes(page: Page, manifest: Manifest) -> None:
    from latentstore.card import bits_in_words, ratio_in_words

    size = manifest.size
    stored_against_payload = size.payload_bytes / size.stored_bytes
    source = NONE if size.source_bytes is None else f"{size.source_bytes:,}"
    against_source = "no files" if size.source_over_stored is None else ratio_in_words(size.source_over_stored)
    raw_rgb = "raw RGB, 3 bytes a pixel" + (", each picture once" if manifest.preparation.views else "")
    page.table(
        ["what", "bytes>", "what is stored, against it"],
        [
            [raw_rgb, f"{size.raw_rgb_bytes:,}", ratio_in_words(size.raw_rgb_over_stored)],
            ["source files", source, against_source],
            ["latents before compression", f"{size.payload_bytes:,}", ratio_in_words(stored_against_payload)],
            ["entropy of the stored numbers, order 0", f"{size.entropy_bytes:,}", _against_entropy(manifest)],
            *_thumbnails(manifest),
            ["stored: all shards", f"{size.stored_bytes:,}", bits_in_words(manifest)],
        ],
    )


def _thumbnails(manifest: Manifest) -> Iterator[list[str]]:
    """A row of the table of sizes, where there are thumbnails."""
    size = manifest.size
    if size.thumbnail_bytes:
        share = size.thumbnail_bytes / size.stored_bytes
        told = f"{share:.1%} of what is stored" if share <= 1 else "before compression: equal ones are kept once"
        yield [f"thumbnails of {manifest.thumbnail} pixels", f"{size.thumbnail_bytes:,}", told]


def _against_entropy(manifest: Manifest) -> str:
    """How far the stored bytes are from what a coder of single bytes could reach."""
    size = manifest.size
    if not size.entropy_bytes:
        return NONE
    apart = size.stored_bytes / size.entropy_bytes - 1
    return f"stored is {abs(apart):.1%} {'above' if apart >= 0 else 'below'}"


def _calibration(page: Page, manifest: Manifest) -> None:
    storage = manifest.storage
    if storage.calibration is None or len(storage.calibration.candidates) < 2:
        return
    page.heading(f"Storages that were tried, on {storage.calibration.pictures} pictures")
    rows = []
    for entry in storage.calibration.candidates:
        taken = (entry.storage, entry.step_sigma) == (storage.name, storage.step_sigma)
        step = NONE if entry.step_sigma is None else step_in_words(entry.step_sigma)
        loss = f"{entry.loss_db:.4f} ± {entry.loss_error_db:.4f}"
        bits = f"{entry.bits_per_pixel:.3f}"
        rows.append([entry.storage, step, bits, loss, f"{entry.clipped:,}", "taken" if taken else ""])
    columns = ["storage", "step>", "entropy, bits per pixel>", "dB lost>", "clipped>", ""]
    page.table(columns, rows)


def _channels(page: Page, manifest: Manifest) -> None:
    gain, _ = manifest.normalisation.affine(manifest.vae.channels)
    page.table(
        ["split", "channels>", "raw mean", "raw std", "raw values", "model std"],
        [_channel_row(name, numbers, gain.tolist()) for name, numbers in manifest.statistics.items()],
    )
    page.line("  from the lowest channel to the highest; model std is raw std times the gain, and near 1 is good")


def _channel_row(split: str, numbers: ChannelNumbers, gain: list[float]) -> list[str]:
    joined = len(gain) // len(numbers.std)  # model channels behind each raw one: 4 in FLUX.2's space
    model = [numbers.std[place // joined] * abs(factor) for place, factor in enumerate(gain)]
    values = f"{min(numbers.minimum):.2f} .. {max(numbers.maximum):.2f}"
    return [split, str(len(numbers.std)), _span(numbers.mean), _span(numbers.std), values, _span(model)]


def _span(numbers: tuple[float, ...] | list[float]) -> str:
    return f"{min(numbers):.2f} .. {max(numbers):.2f}"


def _build(manifest: Manifest) -> Iterator[tuple[str, str]]:
    build, environment = manifest.build, manifest.environment
    yield from skipped_pairs(manifest, paths=3)
    yield from duplicate_pairs(manifest)
    if build.conversions:
        steps = (f"{count:,} picture{'' if count == 1 else 's'}: {what}" for what, count in build.conversions.items())
        yield "converted", "; ".join(steps)
    seed = f", seed {build.seed}" if build.order == "shuffled" else ""
    yield "order", f"{build.order}{seed}; batches of {build.batch_size}, shards of up to {build.rows_per_shard:,} rows"
    memory_format = "" if environment.memory_format == "contiguous" else f", {environment.memory_format}"
    yield "computed", f"on {environment.device} in {environment.dtype}{memory_format}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    for number, added in enumerate(build.appended):
        yield "" if number else "appended", _appended(added, environment.versions)


def _appended(added: AppendInfo, first: Mapping[str, str]) -> str:
    """How many pictures an append added, and by which other versions than those that began the dataset."""
    count = sum(added.pictures.values())
    names = dict.fromkeys((*first, *added.versions))
    others = [name for name in names if first.get(name) != added.versions.get(name)]
    told = (f"{name} {added.versions.get(name, NONE)} in place of {first.get(name, NONE)}" for name in others)
    return f"{count:,} picture{'' if count == 1 else 's'}{', by ' if others else ''}{', '.join(told)}"
