"""Lightning and accelerate train on a dataset as it is: through torch's DataLoader, and through its own loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from latentstore import LatentDataset, load_latents

STEPS, SIZE = 2, 8
# What the frameworks warn of (worker counts, missing loggers, their own deprecations) is not about the data.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def named(drawn_fast: Path) -> LatentDataset:
    """30 rows with ids and labels of 12 classes."""
    return load_latents(drawn_fast, columns=["id", "label"])


def batches_of(dataset: LatentDataset, workers: str) -> Any:
    """What people give to a framework: the dataset in a DataLoader, or the dataset's own loader."""
    if workers == "ours":
        return dataset.loader(SIZE, shuffle=True, seed=1)
    rows: Any = dataset  # it has the methods of a map-style dataset; inheriting would import torch
    if workers == "none":
        return DataLoader(rows, batch_size=SIZE, shuffle=True)
    return DataLoader(rows, batch_size=SIZE, shuffle=True, num_workers=2, multiprocessing_context=workers)


def network(dataset: LatentDataset) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(int(torch.tensor(dataset.latent_shape).prod()), 12))


def classifier(dataset: LatentDataset, seen: list[list[str]]) -> Any:
    """A LightningModule that notes the ids of its batches."""
    import lightning

    class Classifier(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network(dataset)

        def training_step(self, batch: dict[str, Any], _: int) -> torch.Tensor:
            seen.append(batch["id"])
            return F.cross_entropy(self.network(batch["latent"]), batch["label"])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Classifier()


def trainer(folder: Path, **options: Any) -> Any:
    import lightning

    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return lightning.Trainer(default_root_dir=folder, **{**quiet, **options})


def weights_of(module: nn.Module) -> torch.Tensor:
    return torch.cat([values.detach().flatten() for values in module.parameters()])


WORKERS = pytest.mark.parametrize("workers", ["ours", "none", "fork", "spawn"])


@WORKERS
def test_lightning_trains_on_it_as_it_is(named: LatentDataset, tmp_path: Path, workers: str) -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install lightning")
    seen: list[list[str]] = []
    module = classifier(named, seen)
    before = weights_of(module)
    trainer(tmp_path, max_steps=STEPS).fit(module, batches_of(named, workers))
    assert [len(names) for names in seen] == [SIZE] * STEPS
    assert len({name for names in seen for name in names}) == STEPS * SIZE
    assert not torch.equal(weights_of(module), before)


def test_lightning_ends_epochs_of_our_loader_and_begins_the_next_in_another_order(
    named: LatentDataset, tmp_path: Path
) -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install lightning")
    seen: list[list[str]] = []
    trainer(tmp_path, max_epochs=2).fit(classifier(named, seen), batches_of(named, "ours"))
    loader = named.loader(SIZE, shuffle=True, seed=1)
    assert seen == [batch["id"] for _ in range(2) for batch in loader]


def test_a_checkpoint_of_lightning_goes_on_with_the_next_row(named: LatentDataset, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install lightning")
    seen: list[list[str]] = []
    fitting = trainer(tmp_path, max_steps=6)
    fitting.fit(classifier(named, seen), batches_of(named, "ours"))  # 4 batches, and 2 of the second epoch
    fitting.save_checkpoint(tmp_path / "at-6.ckpt")
    trainer(tmp_path, max_steps=9).fit(
        classifier(named, seen), batches_of(named, "ours"), ckpt_path=tmp_path / "at-6.ckpt", weights_only=True
    )
    loader = named.loader(SIZE, shuffle=True, seed=1)
    assert seen == [batch["id"] for _ in range(3) for batch in loader][:9]


@WORKERS
def test_accelerate_trains_on_it_as_it_is(named: LatentDataset, workers: str) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed: pip install accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    module = network(named)
    before = weights_of(module)
    module, optimiser, batches = accelerator.prepare(
        module, torch.optim.SGD(module.parameters(), lr=0.1), batches_of(named, workers)
    )
    seen: set[str] = set()
    for _, batch in zip(range(STEPS), batches, strict=False):
        loss = F.cross_entropy(module(batch["latent"]), batch["label"])
        optimiser.zero_grad()
        accelerator.backward(loss)
        optimiser.step()
        seen |= set(batch["id"])
    assert len(seen) == STEPS * SIZE
    assert not torch.equal(weights_of(module), before)
