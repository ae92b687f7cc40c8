"""The checks, by name, in the order in which they run."""

from __future__ import annotations

from latentstore.checks import files, latents, manifest, quality, rows, thumbnails
from latentstore.checks.interface import NORMAL, CheckRow
from latentstore.named_table import NamedTable

CHECKS = NamedTable(
    "check",
    [
        CheckRow("manifest", "the manifest is valid and agrees with itself", manifest.check_manifest),
        CheckRow(
            "provenance",
            "the manifest says what its build plan says, and what the tables say of its VAE and source",
            manifest.check_provenance,
        ),
        CheckRow(
            "files", "every listed shard is there, of the recorded size, and no other", files.check_files, by_shard=True
        ),
        CheckRow("index", "index.parquet has the recorded sha256, and all rows in the shards' order", rows.check_index),
        CheckRow(
            "columns",
            "values are there, of their type, and picture sizes fit the latents",
            rows.check_columns,
            needs=("index",),
        ),
        CheckRow("ids", "no id occurs twice", rows.check_ids, needs=("index", "columns")),
        CheckRow("labels", "every label is in the class list", rows.check_labels, needs=("index", "columns")),
        CheckRow(
            "duplicates",
            "pictures with the same bytes are those the manifest counts; it warns of any",
            rows.check_duplicates,
            needs=("index", "columns"),
        ),
        CheckRow(
            "summaries",
            "quality and sizes in the manifest follow from the rows",
            rows.check_summaries,
            needs=("index", "columns", "labels"),
        ),
        CheckRow(
            "hashes",
            "every shard has the recorded sha256",
            files.note_hashed,
            needs=("files",),
            depth=NORMAL,
            of_shard=files.check_hashes,
        ),
        CheckRow(
            "structure",
            "every shard can be read and describes its columns as the manifest does",
            files.note_structure,
            needs=("hashes",),
            depth=NORMAL,
            of_shard=files.check_structure,
        ),
        CheckRow(
            "rows",
            "index.parquet says what the shards say, row by row",
            rows.note_rows,
            needs=("index", "structure"),
            depth=NORMAL,
            of_shard=rows.check_rows,
        ),
        CheckRow(
            "checksums",
            "every latent has the CRC-32 that its row records",
            latents.note_checksums,
            needs=("structure",),
            depth=NORMAL,
            of_shard=latents.check_checksums,
        ),
        CheckRow(
            "latents",
            "numbers are finite, with the recorded statistics, entropy and clipped numbers",
            latents.check_sums,
            needs=("structure", "checksums"),
            depth=NORMAL,
            of_shard=latents.check_latents,
        ),
        CheckRow(
            "thumbnails",
            "every thumbnail can be decoded and has its size; the manifest says what they take",
            thumbnails.check_thumbnail_sizes,
            needs=("structure",),
            depth=NORMAL,
            of_shard=thumbnails.check_thumbnails,
        ),
        CheckRow(
            "identity",
            "the VAE at hand is the recorded one: weights, class, channels, normalisation",
            quality.check_identity,
            depth=NORMAL,
        ),
        CheckRow(
            "quality",
            "a sample (at full depth: every row), decoded and measured again, has the recorded scores",
            quality.check_quality,
            needs=("columns", "rows", "latents", "identity"),
            depth=NORMAL,
        ),
        CheckRow(
            "likeness",
            "thumbnails of a sample (at full depth: every one) are of what their rows decode to",
            thumbnails.check_likeness,
            needs=("columns", "rows", "latents", "thumbnails", "identity"),
            depth=NORMAL,
        ),
        CheckRow(
            "source",
            "source pictures have the recorded sha256: those of the sample, or all where a source is named",
            quality.check_source,
            needs=("columns", "rows"),
            depth=NORMAL,
        ),
    ],
)
