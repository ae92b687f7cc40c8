"""Scene classification from latents, beside the same kind of network on pixels: accuracy, F1, and where the time goes.

python scripts/train_classifier.py                           960 drawn scenes of 64x64, built in ./demo-training
python scripts/train_classifier.py LOCATION --mix cutmix --epochs 40 --seeds 5        mean and standard deviation

Both networks follow one recipe with as many parameters, batches and steps. Pixels are the source's own pictures as they
were prepared for the VAE, kept in memory as uint8; where the source is not at hand, what the VAE makes of the latents.
Held out is the split called test, else a seeded quarter of each class (tiles of one picture may fall on both sides).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from latentstore import SOURCES, VAES, BuildPlan, LatentDataset, build, cutmix, load_latents, mixup, open_store
from latentstore.records import Tile
from latentstore.remeasure import Unavailable, originals_of

MIXES: dict[str, Any] = {"none": lambda batch, *_, **__: batch, "mixup": mixup, "cutmix": cutmix}


def main() -> None:
    """Train on both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("location", nargs="?", default="demo-training", help="with classes; default: drawn scenes")
    parser.add_argument("--scenes", type=int, nargs=2, default=(960, 64), metavar=("COUNT", "SIDE"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--trust", action="store_true", help="open the source that the dataset names, whatever it is")
    parser.add_argument("--mix", choices=MIXES, default="none")
    parser.add_argument("--seed", type=int, default=0, help="of the rows that are held out, and of the first network")
    parser.add_argument("--seeds", type=int, default=1, help="networks, of this seed and the next")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.location == "demo-training":  # a finished build is found again, so only the first run waits for it
        scenes = SOURCES["synthetic"].at("", count=options.scenes[0], size=options.scenes[1])
        build(BuildPlan(source=scenes, vae=VAES["demo"], batch_size=32), "demo-training")
    train, test = parts(options)
    classes, size = len(train.class_names or ()), options.batch_size
    print(f"{len(train)} rows to train on, {len(test)} held out; {options.device}, {torch.get_num_threads()} threads")
    (seen, origin), (unseen, _) = pictures(train, options), pictures(test, options)
    latents = train.loader(size, shuffle=True, seed=options.seed), test.loader(size)
    rows = []
    for name, key, *both in (("latents", "latent", *latents), (f"pixels ({origin})", "image", seen, unseen)):
        runs = torch.stack([trained(classes, options.seed + n, options, key, *both) for n in range(options.seeds)])
        mean, spread = runs.mean(0), runs.std(0, correction=min(1, len(runs) - 1))
        scores = [f"{mean[n]:.3f}" + f" ± {spread[n]:.3f}" * (len(runs) > 1) for n in range(3)]
        rows += [f"| {name} | {mean[5]:,.0f} | {' | '.join(scores)} | {mean[3]:.2f} | {mean[4]:.1%} |"]
    print("\n| trained on | parameters | accuracy | macro F1 | weighted F1 | seconds an epoch | loading |")
    print("|---|---:|---:|---:|---:|---:|---:|", *rows, sep="\n")


def parts(options: argparse.Namespace) -> list[LatentDataset]:
    """The rows to train on, and those held out."""
    wanted: dict[str, Any] = {"columns": ["id", "label"], "device": options.device}
    if "test" in open_store(options.location).manifest.splits:
        return [load_latents(options.location, split=split, **wanted) for split in ("train", "test")]
    labels, random = load_latents(options.location).labels, np.random.default_rng(options.seed)
    held_out = np.zeros(len(labels), bool)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        held_out[random.choice(np.flatnonzero(labels == label), max(1, count // 4), replace=False)] = True
    return [load_latents(options.location, filter=lambda _, k=keep: k, **wanted) for keep in (~held_out, held_out)]


@dataclass
class Pictures:
    """Pictures in memory, in batches like those of a loader of latents, every pass in another order."""

    pixels: torch.Tensor  # (N, 3, H, W) uint8
    labels: Any
    batch_size: int

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for rows in torch.randperm(len(self.labels)).split(self.batch_size):  # type: ignore[no-untyped-call]
            yield {"image": self.pixels[rows] / 127.5 - 1, "label": torch.from_numpy(self.labels)[rows]}


def pictures(part: LatentDataset, options: argparse.Namespace) -> tuple[Pictures, str]:
    """Those of a part's rows, and where they come from."""
    try:
        originals = originals_of(open_store(options.location), trust=options.trust)
    except (Unavailable, ValueError) as reason:  # gone, or nobody said that it may be opened
        print(f"pixels are decoded from the latents: {reason}")
        decoded = [(part.decode(batch["latent"]) * 255).round().byte().cpu() for batch in part.loader(32)]
        return Pictures(torch.cat(decoded), part.labels, options.batch_size), "decoded"
    index = open_store(options.location).index(["id", "split", "source_sha256"])
    row_of = {name: row for row, name in enumerate(index["id"])}
    tiles = [originals.tile(index, row_of[name]) for batch in part.loader(256) for name in batch["id"]]
    found = [torch.from_numpy(tile.pixels).permute(2, 0, 1) for tile in tiles if isinstance(tile, Tile)]
    if len(found) < len(tiles):
        raise SystemExit(f"{len(tiles) - len(found)} pictures of the source are not those that were encoded.")
    return Pictures(torch.stack(found), part.labels, options.batch_size), "source"


def network(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Pairs of 3x3 convolutions of one width, the first of each halving the side, down to 4 or less."""
    channels, pairs = shape[0], max(2, math.ceil(math.log2(min(shape[1:]) / 4)))
    square = 2 * pairs - 1  # 9 (square width^2 + channels width) parameters are to be 150,000
    width = round((math.sqrt(channels**2 + 4 * square * 150_000 / 9) - channels) / (2 * square))
    layers: list[nn.Module] = []
    for number in range(2 * pairs):
        convolution = nn.Conv2d(width if number else channels, width, 3, 2 - number % 2, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def trained(classes: int, seed: int, options: Any, key: str, train: Iterable[Any], test: Iterable[Any]) -> torch.Tensor:
    """A network trained on ``key``: accuracy and F1s on ``test``, seconds an epoch, part of loading, parameters."""
    torch.manual_seed(seed)
    model = network(next(iter(test))[key].shape[1:], classes).to(options.device)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs)
    loading, computing, clock = 0.0, 0.0, time.perf_counter()
    for epoch in range(options.epochs):
        for batch in train:
            mixed = MIXES[options.mix](batch, classes, name=key)
            inputs, labels = mixed[key].to(options.device), mixed["label"].to(options.device)
            loaded = time.perf_counter()
            loss = nn.functional.cross_entropy(model(inputs), labels, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            last = loss.item()  # waits for the device, so that its seconds are counted here
            done = time.perf_counter()
            loading, computing, clock = loading + loaded - clock, computing + done - loaded, done
        schedule.step()
        share = loading / (loading + computing)
        print(f"{key}, epoch {epoch + 1}: loss {last:.3f}; loading {share:.1%}, computing {1 - share:.1%}", flush=True)
    with torch.inference_mode():
        found = [(model.eval()(batch[key].to(options.device)).cpu(), batch["label"]) for batch in test]
    guess, truth = (torch.cat(parts) for parts in zip(*found, strict=True))
    scores = [multiclass_accuracy(guess, truth, classes, average="micro")]
    scores += [multiclass_f1_score(guess, truth, classes, average=average) for average in ("macro", "weighted")]
    seconds, parameters = (loading + computing) / options.epochs, sum(map(torch.numel, model.parameters()))
    return torch.tensor([*scores, seconds, share, parameters])


if __name__ == "__main__":
    main()
