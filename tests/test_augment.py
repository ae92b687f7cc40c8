"""MixUp and CutMix against their formulas, written out row by row and cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scenes
import torch

from latentstore import cutmix, load_latents, mixup
from latentstore.errors import RequestError

CLASSES = 5
MIXES = [mixup, cutmix]


def batch(rows: int = 6, shape: tuple[int, ...] = (3, 7, 9)) -> dict[str, Any]:
    """Latents of which no two numbers are equal, every row of another class as far as they go."""
    latent = torch.arange(rows * int(np.prod(shape)), dtype=torch.float32).reshape(rows, *shape)
    return {"latent": latent, "label": torch.arange(rows) % CLASSES, "id": [f"row {row}" for row in range(rows)]}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def partner_of(found: dict[str, Any], given: dict[str, Any], row: int) -> tuple[int, float]:
    """The row of another class whose label was mixed into this one, and its share; the row itself where none was."""
    others = found["label"][row].clone()
    others[given["label"][row]] = 0
    if not others.any():
        return row, 0.0
    return int((given["label"] == others.argmax()).nonzero()[0]), float(others.max())


@pytest.mark.parametrize("seed", range(5))
def test_mixup_is_the_same_convex_combination_of_latents_and_of_labels(seed: int) -> None:
    given = batch(rows=CLASSES)
    found = mixup(given, CLASSES, 1.0, seeded(seed))
    pairs = [partner_of(found, given, row) for row in range(CLASSES)]
    shares = {round(share, 5) for _, share in pairs if share}
    assert len(shares) == 1  # one lambda a batch
    for row, (other, share) in enumerate(pairs):
        for cell in [(0, 0, 0), (2, 6, 8), (1, 3, 4)]:
            expected = (1 - share) * given["latent"][row][cell] + share * given["latent"][other][cell]
            assert found["latent"][row][cell].item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_takes_one_box_from_the_partner_and_the_label_is_its_exact_area(seed: int) -> None:
    given = batch(rows=CLASSES)
    found = cutmix(given, CLASSES, 1.0, seeded(seed))
    boxes = set()
    for row in range(CLASSES):
        other, share = partner_of(found, given, row)
        own = found["latent"][row] == given["latent"][row]
        assert bool((own | (found["latent"][row] == given["latent"][other])).all())
        assert torch.equal(own[0], own[1])
        assert torch.equal(own[0], own[2])
        if other == row:
            continue
        cut = (~own[0]).nonzero()
        (top, left), (bottom, right) = cut.min(0).values.tolist(), cut.max(0).values.tolist()
        assert len(cut) == (bottom - top + 1) * (right - left + 1)  # a full rectangle
        assert share == pytest.approx(len(cut) / (7 * 9), abs=1e-6)
        boxes.add((top, left, bottom, right))
    assert len(boxes) <= 1  # one box a batch


def test_cutmix_boxes_have_the_shape_of_the_grid_and_the_area_that_was_drawn() -> None:
    # With alpha = 1 the share u that is cut is uniform, and a side r = sqrt(u) about a uniform centre has r - r^2 / 4
    # inside the border on average: the two sides are independent, so the mean share is E[(sqrt(u) - u / 4)^2].
    drawn = np.linspace(0.0005, 0.9995, 1000)
    expected = float(np.mean((np.sqrt(drawn) - drawn / 4) ** 2))
    given = {"latent": torch.zeros(2, 1, 64, 64), "label": torch.tensor([0, 1])}
    generator = seeded(0)
    shares: list[float] = []
    while len(shares) < 600:
        label = cutmix(given, 2, 1.0, generator)["label"]
        if label[0, 1] > 0:  # the permutation was no identity
            shares.append(float(label[0, 1]))
    assert np.mean(shares) == pytest.approx(expected, abs=0.03)


def test_mixup_draws_lambda_from_beta() -> None:
    given = {"latent": torch.zeros(2, 1, 1, 1), "label": torch.tensor([0, 1])}
    generator = seeded(1)
    drawn = [float(mixup(given, 2, 0.4, generator)["label"][0, 0]) for _ in range(1200)]
    kept = np.array([one for one in drawn if one < 1 - 1e-7])
    assert np.mean(kept) == pytest.approx(0.5, abs=0.05)
    assert np.var(kept) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.02)  # of Beta(a, a)


@pytest.mark.parametrize("mix", MIXES)
def test_the_same_generator_gives_the_same_batch_and_another_one_another(mix: Any) -> None:
    given = batch()
    first, again = mix(given, CLASSES, generator=seeded(3)), mix(given, CLASSES, generator=seeded(3))
    assert torch.equal(first["latent"], again["latent"])
    assert torch.equal(first["label"], again["label"])
    others = [mix(given, CLASSES, generator=seeded(seed)) for seed in range(4, 12)]
    assert any(not torch.equal(first["latent"], other["latent"]) for other in others)


@pytest.mark.parametrize("mix", MIXES)
def test_without_a_generator_torch_s_own_seed_decides(mix: Any) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        found.append([mix(batch(), CLASSES)["latent"] for _ in range(2)])
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][0], found[0][1])


@pytest.mark.parametrize("mix", MIXES)
def test_soft_labels_sum_to_one_and_what_was_given_stays_as_it_was(mix: Any) -> None:
    given = batch(rows=9)
    kept: dict[str, Any] = {"latent": given["latent"].clone(), "label": given["label"].clone(), "id": [*given["id"]]}
    for seed in range(10):
        found = mix(given, CLASSES, generator=seeded(seed))
        assert found["label"].shape == (9, CLASSES)
        assert found["label"].dtype == torch.float32
        assert torch.allclose(found["label"].sum(1), torch.ones(9), atol=1e-6)
        assert (found["label"] >= 0).all()
        assert found["latent"].dtype == torch.float32
        assert found["id"] == kept["id"]
    assert torch.equal(given["latent"], kept["latent"])
    assert torch.equal(given["label"], kept["label"])


@pytest.mark.parametrize("mix", MIXES)
def test_half_precision_stays_half_precision(mix: Any) -> None:
    given = {**batch(), "latent": torch.randn(6, 3, 7, 9).bfloat16()}
    assert mix(given, CLASSES)["latent"].dtype == torch.bfloat16


@pytest.mark.parametrize("mix", MIXES)
def test_another_tensor_of_the_batch_can_be_mixed_instead(mix: Any) -> None:
    given = batch()
    given["image"] = given["latent"] * 2
    found, usual = (mix(given, CLASSES, generator=seeded(5), name=name) for name in ("image", "latent"))
    assert torch.equal(found["latent"], given["latent"])
    assert torch.allclose(found["image"], usual["latent"] * 2)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"label": torch.tensor([0, -1, 2, 3, 4, 0])}, r"Row 1 of the batch has no label \(-1\)"),
        ({"label": torch.tensor([0, 5, 2, 3, 4, 0])}, "Expected labels below 5, the number of classes, found 5."),
        ({"label": torch.full((6, 5), 0.2)}, "a batch is mixed once"),
    ],
)
def test_labels_that_cannot_be_mixed_are_refused(mix: Any, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        mix({**batch(), **changed}, CLASSES)


@pytest.mark.parametrize("mix", MIXES)
def test_a_batch_without_labels_and_an_alpha_of_zero_are_refused(mix: Any) -> None:
    with pytest.raises(RequestError, match="Expected a batch with 'label', found 'latent'."):
        mix({"latent": torch.zeros(2, 1, 2, 2)}, CLASSES)
    for alpha in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(RequestError, match="Expected an alpha above 0"):
            mix(batch(), CLASSES, alpha)


def test_cutmix_needs_a_grid_of_cells() -> None:
    with pytest.raises(RequestError, match=r"of shape \(N, C, h, w\), found \(6, 3\)"):
        cutmix({**batch(), "latent": torch.zeros(6, 3)}, CLASSES)


def test_batches_of_the_loader_are_mixed_as_they_come(tmp_path: Path) -> None:
    scenes.build_scenes(tmp_path)
    data = load_latents(tmp_path)
    assert data.class_names is not None
    for given in data.loader(batch_size=8, shuffle=True):
        for mix in MIXES:
            found = mix(given, len(data.class_names))
            assert found["latent"].shape == given["latent"].shape
            assert torch.nn.functional.cross_entropy(torch.zeros(found["label"].shape), found["label"]) > 0
