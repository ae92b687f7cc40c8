"""What the Hub reads in a README: the YAML block at its top."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

STEPS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
SIZE_CATEGORIES = ["n<1K", *(f"{low}<n<{high}" for low, high in pairwise(STEPS)), "n>1T"]
LISTS_OF_TEXT = ("language", "tags", "task_categories", "task_ids", "source_datasets", "annotations_creators")


def front_matter(content: str | bytes) -> dict[str, Any] | None:
    """The block's mapping; None where there is no block or it cannot be parsed."""
    import yaml

    text = content.decode(errors="replace") if isinstance(content, bytes) else content
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---\s*(?:\n|$)", text, re.DOTALL)
    if found is None:
        return None
    try:
        parsed = yaml.safe_load(found[1])
    except yaml.YAMLError:
        return None
    return parsed if isinstance(parsed, dict) else None


def problems_of(content: str) -> list[str]:
    """Sentences about what the Hub would refuse in a card; a card without a block is fine."""
    if not re.match(r"\s*---\r?\n", content):
        return []
    card = front_matter(content)
    if card is None:
        return ["The metadata block is not a YAML mapping between two lines of three dashes"]
    problems = []
    for name in LISTS_OF_TEXT:
        given = card.get(name, [])
        if not isinstance(given, (str, list)) or not all(isinstance(one, str) for one in given):
            problems.append(f'"{name}" must be a string or an array of strings')
    given = card.get("license", "unknown")
    licences = given if isinstance(given, list) else [given]
    if not all(isinstance(one, str) and re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", one) for one in licences):
        problems.append('"license" must be one of the identifiers that the Hub lists')
    sizes = card.get("size_categories", [])
    if any(size not in SIZE_CATEGORIES for size in (sizes if isinstance(sizes, list) else [sizes])):
        problems.append(f'"size_categories" must be of {", ".join(SIZE_CATEGORIES)}')
    if not isinstance(card.get("pretty_name", ""), str):
        problems.append('"pretty_name" must be a string')
    return problems + _problems_of_configs(card.get("configs", []))


def _problems_of_configs(configs: Any) -> list[str]:
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        return ['"configs" must be an array of objects']
    problems = []
    for number, config in enumerate(configs):
        if not isinstance(config.get("config_name"), str):
            problems.append(f'"configs[{number}].config_name" must be a string')
        files = config.get("data_files", [])
        if not isinstance(files, (str, list)) or not all(_is_files(one) for one in files):
            problems.append(f'"configs[{number}].data_files" must be a string or an array of strings or split and path')
    return problems


def _is_files(given: Any) -> bool:
    return isinstance(given, str) or (isinstance(given, dict) and {"split", "path"} <= set(given))
