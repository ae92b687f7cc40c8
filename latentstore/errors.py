"""Every error this library raises on purpose, drawn as a tree.

    LatentStoreError                    one clear sentence: what, where, expected, found, what to type next
    ├── RequestError                    what was asked for cannot be done
    │   ├── UnknownNameError            no row, column, config or split of that name (names the nearest)
    │   ├── UntrustedError              a manifest names what nobody here has asked to open
    │   ├── MixedSizesError             the images do not share one latent shape
    │   └── PlanMismatchError           the output folder already holds the result of another plan
    ├── SourceError                     the images cannot be read as asked
    │   └── BadImageError               one file is no usable picture (quarantined unless strict)
    ├── VaeError                        the VAE cannot be loaded
    │   └── WrongVaeError               its weights are not those that made the latents
    ├── MetricError                     the metric's weights are missing, or not those it wants
    ├── PublishError                    a dataset cannot be published, or not to that place
    └── StoreError                      the files on disk are not a sealed latent dataset
        ├── NotSealedError              there is no manifest (yet)
        ├── ManifestError               a field of the manifest is wrong; the path to the field is named
        │   └── UnsupportedVersionError written in a format this version cannot read
        ├── UnsafePathError             a path that somebody else wrote leads where it must not
        ├── DamagedShardError           a shard is missing, cut, or not the one the manifest describes
        └── FetchError                  a file that lies elsewhere cannot be fetched
            ├── MissingFileError        there is no file of that name there
            └── UnreachableError        nobody answers there, or nobody may be asked

``RequestError`` and its children also are ``ValueError``, so code that knows nothing of this library behaves.
"""

from __future__ import annotations

LONGEST_SENTENCE, LONGEST_MESSAGE, LONGEST_FIELD = 4000, 1000, 200
"""Signs of an error, of what it says of a field, and of the path to that field."""


class LatentStoreError(Exception):
    """Base of all errors raised on purpose; its text is one sentence for the user.

    Of a longer one than anybody reads, because strangers chose the names in it, the middle is left out.
    """

    def __str__(self) -> str:
        text = super().__str__()
        half = LONGEST_SENTENCE // 2
        return text if len(text) <= LONGEST_SENTENCE else f"{text[:half]} … {text[-half:]}"


class RequestError(LatentStoreError, ValueError):
    """What was asked for cannot be done."""


class UnknownNameError(RequestError):
    """No row, column, config or split has that name."""


class UntrustedError(RequestError):
    """A manifest names a source or a VAE that is no row of the tables, and nobody here has asked to open it."""


class MixedSizesError(RequestError):
    """The images do not share one latent shape."""


class PlanMismatchError(RequestError):
    """The output folder already holds the result (or the beginning) of another plan."""


class SourceError(LatentStoreError):
    """The images cannot be read as asked."""


class BadImageError(SourceError):
    """One file is no usable picture; the text is the reason that goes into the manifest."""


class VaeError(LatentStoreError):
    """The VAE cannot be loaded."""


class WrongVaeError(VaeError):
    """The VAE's weights are not those that made the latents."""


class MetricError(LatentStoreError):
    """A metric cannot be measured: what it looks through is missing, or is not what it wants."""


class PublishError(LatentStoreError):
    """A dataset cannot be published, or not to that place."""


class StoreError(LatentStoreError):
    """The files on disk are not a sealed latent dataset."""


class NotSealedError(StoreError):
    """There is no manifest, so the dataset is not complete (or is none)."""


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


class ManifestError(StoreError):
    """A field of the manifest is wrong.

    ``field`` is the path to it, such as ``splits.train.shards[0].sha256``; it grows while the error travels up.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        where = f"manifest field '{_short(self.field, LONGEST_FIELD)}'" if self.field else "manifest"
        return f"{where}: {_short(self.message, LONGEST_MESSAGE)}"

    def inside(self, parent: str) -> ManifestError:
        """The same error, with the name of the enclosing field put before its path."""
        joint = "" if not self.field or self.field.startswith("[") else "."
        return type(self)(self.message, field=f"{parent}{joint}{self.field}")


class UnsupportedVersionError(ManifestError):
    """The dataset is written in a format that this version cannot read."""


class UnsafePathError(StoreError):
    """A path that somebody else wrote leads out of the folder that it belongs to, or through a link."""


class DamagedShardError(StoreError):
    """A shard is missing, cut, or not the one that the manifest describes."""


class FetchError(StoreError):
    """A file that lies elsewhere cannot be fetched, or not in the way that is needed."""


class MissingFileError(FetchError):
    """There is no file of that name where the dataset should lie."""


class UnreachableError(FetchError):
    """Nobody answers where the dataset should lie, or nobody may be asked (``HF_HUB_OFFLINE``)."""
