"""Networks of a user's own as extractors."""

from __future__ import annotations

import pytest
import torch

from latentstore.errors import MetricError
from latentstore.metrics.networks import module_extractor
from latentstore.metrics.table import SET_METRICS


class Encoder(torch.nn.Module):
    """A convolution, batch normalisation and the mean of each channel."""

    def __init__(self, fill: float = 0.5) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3, bias=False)
        self.norm = torch.nn.BatchNorm2d(4)
        torch.nn.init.constant_(self.convolution.weight, fill)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        assert pictures.dtype == torch.float32
        assert pictures.min() >= 0
        assert pictures.max() <= 1
        features: torch.Tensor = self.norm(self.convolution(pictures)).mean((2, 3))
        return features


def noise(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 9, 9), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_module_is_run_as_in_evaluation_on_pictures_in_zero_to_one() -> None:
    module = Encoder()
    extractor = module_extractor("own", module, 4).open()
    whole = extractor(noise(5))
    assert whole.shape == (5, 4)
    assert torch.equal(whole, torch.cat([extractor(noise(5)[i : i + 1]) for i in range(5)]))
    assert int(module.state_dict()["norm.num_batches_tracked"]) == 0


def test_a_module_is_known_by_its_numbers() -> None:
    first, same, other = (module_extractor("own", Encoder(fill), 4).open().weights_sha256 for fill in (0.5, 0.5, 0.6))
    assert first == same != other
    assert len(first) == 64
    assert module_extractor("own", Encoder(), 4, weights_sha256="abc").open().weights_sha256 == "abc"


def test_what_the_caller_says_of_it_is_in_the_protocol() -> None:
    row = SET_METRICS["cmmd"].using(module_extractor("own", Encoder(), 4, protocol="Means of four channels"))
    assert row.protocol.startswith("Means of four channels. 1000 times the squared")
    assert row.unavailable() == ""


def test_features_of_another_length_or_without_a_value_are_refused() -> None:
    for fill, features, message in (
        (0.5, 5, r"own gave features of shape \(2, 4\); expected \(2, 5\)"),
        (float("nan"), 4, "own gave features that are not finite"),
    ):
        scorer = SET_METRICS["rfid"].using(module_extractor("own", Encoder(fill), features)).open()
        with pytest.raises(MetricError, match=message):
            scorer.update(noise(2), noise(2))
