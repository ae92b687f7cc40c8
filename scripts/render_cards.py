"""Make dataset_cards/ anew: build the embedded configs, and keep their manifests, scores and cards.

python scripts/render_cards.py            about two minutes on two cores
python scripts/render_cards.py --text     only render again what lies there, after the words of the card changed

Each folder is a repository without its large files: per config the manifest and the PSNR of every row in the order of
the index, and the card of them all.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from latentstore import SOURCES, STORAGES, VAES, BuildPlan, build
from latentstore.card import CardChoices, render_card, scores_of, sealed_configs
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.manifest.names import CARD

CARDS = Path(__file__).resolve().parents[1] / "dataset_cards"
SCORES = "psnr.json"
CONFIGS = {
    "synthetic-demo": ("demo", "float16"),
    "synthetic-demo-int8": ("demo", "int8"),
    "synthetic-pool8": ("pool8", "float16"),
}
"""VAE and storage of each; all of the embedded source."""
REPOSITORIES = {**{name: (name,) for name in CONFIGS}, "synthetic-all": tuple(CONFIGS)}
"""Configs of each repository."""


def main() -> None:
    """Build unless told otherwise, then render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="store_true", help="render the cards of what lies there")
    if not parser.parse_args().text:
        with tempfile.TemporaryDirectory() as scratch:
            built = {config: kept_of(Path(scratch), config) for config in CONFIGS}
        for path in CARDS.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        for repository, configs in REPOSITORIES.items():
            for config in configs:
                folder = CARDS / repository / config
                folder.mkdir(parents=True)
                for name, text in built[config].items():
                    (folder / name).write_text(text, encoding="utf-8")
    for repository in REPOSITORIES:
        (CARDS / repository / CARD).write_text(card_of(CARDS / repository), encoding="utf-8")


def kept_of(out: Path, config: str) -> dict[str, str]:
    """Build a config and give the files that are kept of it, by name."""
    vae, storage = CONFIGS[config]
    print(f"building {config}", file=sys.stderr)
    build(BuildPlan(SOURCES["synthetic"], VAES[vae], config=config, storage=STORAGES[storage]), out)
    folder = out / config
    scores = scores_of(out, Manifest.read(folder))
    return {FILE_NAME: (folder / FILE_NAME).read_text(encoding="utf-8"), SCORES: json.dumps(scores) + "\n"}


def card_of(folder: Path) -> str:
    """The card of a repository in dataset_cards, as it would be published."""
    scores = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"*/{SCORES}")}
    choices = CardChoices(license="apache-2.0", repo=f"user/{folder.name}")
    return render_card(sealed_configs(folder), None, choices, scores=scores)


if __name__ == "__main__":
    main()
