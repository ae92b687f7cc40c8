"""Numbers that others published for the same VAEs and pictures, to stand beside what is measured here.

They are quoted, not checked: every number carries the marks of what is known to differ in how it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STUDY = "VAEs4RS"
STUDY_SOURCE = (
    "VAEs4RS at commit 3cedc3a: README.md and tiny_paper.tex (PSNR, LPIPS, FID; SSIM and all of SANA on AID from the "
    "paper), whole datasets, 31,500 pictures of RESISC45 and 10,000 of AID"
)
NUMBERS = ("psnr", "ssim", "lpips", "fid")

CAVEATS: Mapping[str, str] = {
    "a": (
        "PSNR here is the mean over single pictures; the study's is the mean over batches of the PSNR of each batch "
        "taken as one picture, of a posterior sample in bfloat16, which is about 0.7 to 1.3 dB lower for the same "
        "pictures."
    ),
    "b": (
        "PSNR of the study is the mean over batches whose size and order are not stated (16 is what its history "
        "suggests, in the order of a directory listing)."
    ),
    "c": (
        "Probably the mean over single pictures, and so not comparable with the rest of its column (inferred: FLUX2's "
        "number did not move when the others fell by about 1 dB with their aggregation, and FLUX1's stands out beside "
        "it in the same way)."
    ),
    "d": "SSIM of the study is taken on [-1, 1], which gives other and usually lower values than the usual [0, 1].",
    "e": (
        "LPIPS of the study is AlexNet's, as here, of a posterior sample in bfloat16 where here it is of the mean in "
        "the precision stated."
    ),
    "f": (
        "FID of the study is of pictures truncated, not rounded, to 8 bits, of originals rounded to bfloat16, and of a "
        "posterior sample."
    ),
    "g": "Not the number of pictures of the study: its whole dataset was not measured here, and FID falls with more.",
    "h": "FID of the study on RESISC45 is 23 times that on AID, which nothing explains.",
}
"""What differs, by mark."""


@dataclass(frozen=True)
class PublishedRow:
    """One VAE on one source, as the study has it; None where it gives no number."""

    source: str
    """Name in the table of sources."""
    vae: str
    """As the study calls it."""
    names: tuple[str, ...]
    """What it is called in the table of VAEs."""
    psnr: float
    lpips: float
    fid: float
    ssim: float | None = None
    marks: Mapping[str, str] | None = None
    """Marks of single numbers, beside those of their whole column."""

    def number(self, which: str) -> float | None:
        """``psnr``, ``ssim``, ``lpips`` or ``fid``."""
        value: float | None = getattr(self, which)
        return value


_SINGLE = {"psnr": "c"}

PUBLISHED = (
    PublishedRow("resisc45", "SD21", ("sd21",), 25.71, 0.095, 4.13, ssim=0.672),
    PublishedRow("resisc45", "SDXL", ("sdxl",), 25.83, 0.098, 4.98, ssim=0.692),
    PublishedRow("resisc45", "SD35", ("sd35",), 29.71, 0.035, 1.11, ssim=0.862),
    PublishedRow("resisc45", "FLUX1", ("flux1",), 33.30, 0.022, 0.38, marks=_SINGLE),
    PublishedRow("resisc45", "FLUX2", ("flux2",), 33.42, 0.021, 0.46, ssim=0.925, marks=_SINGLE),
    PublishedRow("resisc45", "SANA", ("sana",), 23.36, 0.124, 8.69, ssim=0.558),
    PublishedRow("resisc45", "Qwen", ("qwen",), 30.38, 0.080, 9.51, ssim=0.874, marks={"fid": "h"}),
    PublishedRow("aid", "SD21", ("sd21",), 26.66, 0.094, 3.08),
    PublishedRow("aid", "SDXL", ("sdxl",), 26.80, 0.098, 3.11),
    PublishedRow("aid", "SD35", ("sd35",), 30.72, 0.037, 0.69),
    PublishedRow("aid", "FLUX1", ("flux1",), 33.63, 0.025, 0.26),
    PublishedRow("aid", "FLUX2", ("flux2",), 34.46, 0.022, 0.37),
    PublishedRow("aid", "SANA", ("sana",), 24.72, 0.123, 5.01, ssim=0.606),
    PublishedRow("aid", "Qwen", ("qwen",), 31.46, 0.077, 0.42),
)

PICTURES = {"resisc45": 31_500, "aid": 10_000}
"""How many the study measured."""


def published_for(source: str) -> tuple[PublishedRow, ...]:
    """The study's rows for a source, in its order; none for most."""
    return tuple(row for row in PUBLISHED if row.source == source)
