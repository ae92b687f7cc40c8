"""The manifest: the contract of one config, written last, so that its presence means the dataset is complete.

``Manifest.read`` parses at the edge into frozen dataclasses and checks that the parts agree; everything behind it can
rely on what it says. FORMAT.md specifies every field.
"""

from latentstore.manifest.build_records import (
    AppendInfo,
    BuildInfo,
    DuplicateGroup,
    Duplicates,
    Environment,
    HalvedInfo,
    RetriedInfo,
    SkippedInfo,
)
from latentstore.manifest.checks import STORED_DTYPES
from latentstore.manifest.contract import Manifest, listed_by
from latentstore.manifest.names import FILE_NAME, FORMAT_VERSION, SPLIT_NAME, preview_name
from latentstore.manifest.records import (
    CalibrationInfo,
    CandidateInfo,
    ChannelNumbers,
    ConversionInfo,
    ShardInfo,
    SizeLedger,
    SourceInfo,
    SplitInfo,
    StorageInfo,
    VaeInfo,
)
from latentstore.manifest.text import with_digest

__all__ = [
    "FILE_NAME",
    "FORMAT_VERSION",
    "SPLIT_NAME",
    "STORED_DTYPES",
    "AppendInfo",
    "BuildInfo",
    "CalibrationInfo",
    "CandidateInfo",
    "ChannelNumbers",
    "ConversionInfo",
    "DuplicateGroup",
    "Duplicates",
    "Environment",
    "HalvedInfo",
    "Manifest",
    "RetriedInfo",
    "ShardInfo",
    "SizeLedger",
    "SkippedInfo",
    "SourceInfo",
    "SplitInfo",
    "StorageInfo",
    "VaeInfo",
    "listed_by",
    "preview_name",
    "with_digest",
]
