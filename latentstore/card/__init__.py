"""README.md of a repository of latents: the dataset card.

Its YAML block is what makes a plain ``datasets.load_dataset`` find the right files; its text states measured facts
only. Both are rendered from the manifests of all configs, into what a person wrote.
"""

from latentstore.card.checks import validate_card
from latentstore.card.choices import CardChoices
from latentstore.card.files import refuse_foreign_card, scores_of, sealed_configs, write_card
from latentstore.card.front_matter import CARD
from latentstore.card.render import refuse_unlicensed, render_card
from latentstore.card.words import bits_in_words, ratio_in_words

__all__ = [
    "CARD",
    "CardChoices",
    "bits_in_words",
    "ratio_in_words",
    "refuse_foreign_card",
    "refuse_unlicensed",
    "render_card",
    "scores_of",
    "sealed_configs",
    "validate_card",
    "write_card",
]
