"""Scene classification from latents, beside the same kind of network on pixels: accuracy, F1, and where the time goes.

python scripts/train_classifier.py                           960 drawn scenes of 64x64, built in ./demo-training
python scripts/train_classifier.py LOCATION --mix cutmix --epochs 60

Both networks follow one recipe and have about as many parameters; batches, steps and optimiser are the same. Pixels are
the source's own pictures as they were prepared for the VAE (all of one size), read once and kept in memory as uint8;
where the source is not at hand they are what the VAE makes of the latents, and the table says which. Held out is the
dataset's own test split, else a seeded quarter of each class (tiles of one picture may then fall on both sides).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from latentstore import SOURCES, VAES, BuildPlan, LatentDataset, build, cutmix, load_latents, mixup, open_store
from latentstore.records import Tile
from latentstore.remeasure import Unavailable, originals_of

MIXES: dict[str, Callable[..., Any]] = {"none": lambda batch, *_, **__: batch, "mixup": mixup, "cutmix": cutmix}
PARAMETERS = 150_000  # of each network, at least


def main() -> None:
    """Train on both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("location", nargs="?", help="folder of a latent dataset with classes; default: drawn scenes")
    parser.add_argument("--scenes", type=int, nargs=2, default=(960, 64), metavar=("COUNT", "SIDE"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--mix", choices=MIXES, default="none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.location is None:  # a finished build is found again, so only the first run waits for it
        source = replace(SOURCES["synthetic"], options={"count": options.scenes[0], "size": options.scenes[1]})
        build(BuildPlan(source=source, vae=VAES["demo"], batch_size=32), "demo-training")
        options.location = "demo-training/synthetic-demo"

    train, test = parts(options)
    print(f"{len(train)} rows to train on, {len(test)} held out; {options.device}, {torch.get_num_threads()} threads")
    loader = train.loader(options.batch_size, shuffle=True, seed=options.seed)
    rows = [trained("latents", "latent", loader, test.loader(256), len(train.class_names or ()), options)]
    pictures = [Pictures.of(part, options) for part in (train, test)]
    rows.append(trained(f"pixels ({pictures[0].origin})", "image", *pictures, len(train.class_names or ()), options))
    print("\n| trained on | parameters | accuracy | macro F1 | weighted F1 | seconds an epoch | loading |")
    print("|---|---:|---:|---:|---:|---:|---:|", *rows, sep="\n")


def parts(options: argparse.Namespace) -> list[LatentDataset]:
    """The rows to train on, and those held out."""
    wanted: dict[str, Any] = {"columns": ["id", "label"], "device": options.device}
    if "test" in open_store(options.location).manifest.splits:
        return [load_latents(options.location, split=split, **wanted) for split in ("train", "test")]
    labels = load_latents(options.location).labels
    random = np.random.default_rng(options.seed)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        held_out[rows[: max(1, len(rows) // 4)]] = True
    return [load_latents(options.location, filter=lambda _, k=keep: k, **wanted) for keep in (~held_out, held_out)]


@dataclass
class Pictures:
    """Pictures in memory, in batches like those of a loader of latents, every pass in another order."""

    pixels: torch.Tensor  # (N, 3, H, W) uint8
    labels: torch.Tensor
    origin: str
    batch_size: int

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for rows in torch.randperm(len(self.labels)).split(self.batch_size):
            yield {"image": self.pixels[rows] / 127.5 - 1, "label": self.labels[rows]}

    @classmethod
    def of(cls, part: LatentDataset, options: argparse.Namespace) -> Pictures:
        """The source's pictures of these rows, else the decoded ones."""
        store, labels = open_store(options.location), torch.from_numpy(part.labels)
        try:
            originals, index = originals_of(store), store.index(["id", "split", "source_sha256"])
            rows = {name: row for row, name in enumerate(index["id"])}
            tiles = [originals.tile(index, rows[name]) for batch in part.loader(256) for name in batch["id"]]
            pixels = np.stack([tile.pixels for tile in tiles if isinstance(tile, Tile)])
            return cls(torch.from_numpy(pixels).permute(0, 3, 1, 2), labels, "source", options.batch_size)
        except Unavailable as reason:
            print(f"pixels are decoded from the latents: {reason}")
            decoded = [(part.decode(batch["latent"]) * 255).round().byte().cpu() for batch in part.loader(32)]
            return cls(torch.cat(decoded), labels, "decoded", options.batch_size)


def network(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Pairs of 3x3 convolutions, the first of each halving the side until it is at most 4; as wide as it takes."""
    pairs = max(2, math.ceil(math.log2(min(shape[1:]) / 4)))
    for width in range(8, 4096, 2):
        layers: list[nn.Module] = []
        for number in range(2 * pairs):
            convolution = nn.Conv2d(width if number else shape[0], width, 3, 2 - number % 2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
        if sum(numbers.numel() for numbers in model.parameters()) >= PARAMETERS:
            break
    return model


def trained(name: str, key: str, train: Iterable[Any], test: Iterable[Any], classes: int, options: Any) -> str:
    """Train a network on the batches' ``key``, measure it on ``test``, and give its row of the table."""
    torch.manual_seed(options.seed)
    model = network(next(iter(test))[key].shape[1:], classes).to(options.device)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs)
    loading = computing = 0.0
    for epoch in range(options.epochs):
        clock = time.perf_counter()
        for batch in train:
            mixed = MIXES[options.mix](batch, classes, name=key)
            inputs, labels = mixed[key].to(options.device), mixed["label"].to(options.device)
            loaded = time.perf_counter()
            loss = F.cross_entropy(model(inputs), labels, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            last = loss.item()  # waits for the device, so that its seconds are counted here
            done = time.perf_counter()
            loading, computing, clock = loading + loaded - clock, computing + done - loaded, done
        schedule.step()
        share = loading / (loading + computing)
        print(f"{name}, epoch {epoch + 1}: loss {last:.3f}; loading {share:.1%}, computing {1 - share:.1%}", flush=True)

    scores = [MulticlassAccuracy(classes, average="micro")]
    scores += [MulticlassF1Score(classes, average=average) for average in ("macro", "weighted")]
    model.eval()
    for batch in test:
        with torch.inference_mode():
            found = model(batch[key].to(options.device)).cpu()
        for score in scores:
            score.update(found, batch["label"])
    numbers = f"{sum(numbers.numel() for numbers in model.parameters()):,}"
    measured = " | ".join(f"{score.compute():.3f}" for score in scores)
    return f"| {name} | {numbers} | {measured} | {(loading + computing) / options.epochs:.2f} | {share:.1%} |"


if __name__ == "__main__":
    main()
