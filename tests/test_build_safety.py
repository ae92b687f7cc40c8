"""Numbers that are not finite, and memory that is short: what is tried again, what is skipped, what is recorded."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import build_scenes, plan, scenes

from latentstore import VAES, Manifest, build, load_latents, open_store
from latentstore.errors import RequestError
from latentstore.records import LatentBatch
from latentstore.safe_compute import in_parts, is_out_of_memory
from latentstore.vaes.interface import LoadOptions, VaeRow
from latentstore.vaes.pooling import PoolingVae

Misbehaviour = Callable[[torch.Tensor, LoadOptions], torch.Tensor]


def behaved(numbers: torch.Tensor, _: LoadOptions) -> torch.Tensor:
    return numbers


@dataclass(frozen=True)
class MisbehavingVae(PoolingVae):
    """A user's own VAE: pooling whose network does what a test wants with the numbers it is given."""

    on_encode: Misbehaviour = behaved
    on_decode: Misbehaviour = behaved
    seen: list[tuple[str, str, int]] = field(default_factory=list)

    def encode(self, pixels: torch.Tensor) -> LatentBatch:
        self.seen.append(("encode", self.options.dtype, len(pixels)))
        return LatentBatch(mean=self.on_encode(super().encode(pixels).mean, self.options))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self.seen.append(("decode", self.options.dtype, len(latents)))
        return self.on_decode(super().decode(latents), self.options)


def misbehaving(**how: Any) -> tuple[VaeRow, list[tuple[str, str, int]]]:
    """A row of it, and the list of (method, dtype, pictures) of every call."""
    seen: list[tuple[str, str, int]] = []

    def family(row: VaeRow, options: LoadOptions) -> MisbehavingVae:
        return MisbehavingVae(row, options, seen=seen, **how)

    return replace(VAES["pool8"], family=family), seen


def spoilt_in_half_precision(numbers: torch.Tensor, options: LoadOptions) -> torch.Tensor:
    """The first picture of every batch is NaN, but in float32."""
    if options.dtype != "float32":
        numbers = numbers.clone()
        numbers[0] = float("nan")
    return numbers


def spoilt(numbers: torch.Tensor, _: LoadOptions) -> torch.Tensor:
    """The first picture of every batch is infinite, whatever is tried."""
    numbers = numbers.clone()
    numbers[0] = float("inf")
    return numbers


def too_large_above(limit: int, error: type[BaseException], words: str) -> Misbehaviour:
    """Memory is short for more than so many pictures."""

    def compute(numbers: torch.Tensor, _: LoadOptions) -> torch.Tensor:
        if len(numbers) > limit:
            raise error(words)
        return numbers

    return compute


def latents(out: Path) -> Any:
    return load_latents(out, space="raw").batch(range(len(load_latents(out))))["latent"].numpy()


def test_latents_that_are_not_finite_in_half_precision_are_those_of_float32_and_are_listed(tmp_path: Path) -> None:
    vae, seen = misbehaving(on_encode=spoilt_in_half_precision)
    manifest = build(plan(vae=vae, dtype="bfloat16", order="source"), tmp_path / "retried")
    build_scenes(tmp_path / "plain", order="source")
    assert np.array_equal(latents(tmp_path / "retried"), latents(tmp_path / "plain"))
    assert manifest.build.skipped == ()
    assert [(entry.split, entry.position) for entry in manifest.build.retried] == [
        ("train", position) for position in (0, 4, 8, 12, 16, 20, 24, 28)
    ]
    ids = open_store(tmp_path / "retried").index(["id"])["id"]
    assert [entry.id for entry in manifest.build.retried] == ids[::4]
    assert ("encode", "float32", 4) in seen  # the whole batch again: kernels round differently for another size
    assert Manifest.read(tmp_path / "retried" / manifest.config).build.retried == manifest.build.retried


def test_latents_that_are_not_finite_in_float32_either_are_skipped_with_the_reason(tmp_path: Path) -> None:
    vae, _ = misbehaving(on_encode=spoilt)
    manifest = build(plan(vae=vae, dtype="bfloat16", max_bad=1.0), tmp_path)
    assert manifest.build.retried == ()
    assert {entry.reason for entry in manifest.build.skipped} == {"the VAE gave a latent that is not finite"}
    assert [entry.position for entry in manifest.build.skipped] == [0, 4, 8, 12, 16, 20, 24, 28]
    assert manifest.rows == 22


def test_decodes_that_are_not_finite_in_half_precision_are_measured_in_float32(tmp_path: Path) -> None:
    vae, _ = misbehaving(on_decode=spoilt_in_half_precision)
    manifest = build(plan(vae=vae, dtype="bfloat16"), tmp_path / "retried")
    plain = build_scenes(tmp_path / "plain")
    assert manifest.quality["psnr"].mean == plain.quality["psnr"].mean
    assert manifest.build.skipped == ()


def test_decodes_that_are_never_finite_are_skipped_with_the_reason(tmp_path: Path) -> None:
    vae, _ = misbehaving(on_decode=spoilt)
    manifest = build(plan(vae=vae, max_bad=1.0), tmp_path)
    assert {entry.reason for entry in manifest.build.skipped} == {"the VAE's decode of it is not finite"}
    assert manifest.rows == 22


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError, ""),
        (torch.cuda.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB."),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
        (RuntimeError, "not enough memory: you tried to allocate 17 bytes."),
    ],
)
def test_a_batch_that_does_not_fit_into_memory_is_halved_until_it_does_and_that_is_recorded(
    tmp_path: Path, error: type[BaseException], words: str
) -> None:
    vae, seen = misbehaving(on_encode=too_large_above(2, error, words))
    manifest = build(plan(vae=vae, batch_size=10, rows_per_shard=20), tmp_path / "halved")
    build_scenes(tmp_path / "plain", batch_size=10, rows_per_shard=20)
    assert np.array_equal(latents(tmp_path / "halved"), latents(tmp_path / "plain"))
    found = [(entry.start, entry.stop, entry.rows_at_once, entry.stage) for entry in manifest.build.halved]
    assert found == [(0, 10, 2, "encode"), (10, 20, 2, "encode"), (20, 30, 2, "encode")]
    assert [pictures for method, _, pictures in seen if method == "encode"][:4] == [10, 5, 3, 2]
    assert Manifest.read(tmp_path / "halved" / manifest.config).build.halved == manifest.build.halved


def test_a_decode_that_does_not_fit_into_memory_is_halved_too(tmp_path: Path) -> None:
    vae, _ = misbehaving(on_decode=too_large_above(3, MemoryError, ""))
    manifest = build(plan(vae=vae), tmp_path / "halved")
    assert manifest.quality == build_scenes(tmp_path / "plain").quality
    assert {(entry.rows_at_once, entry.stage) for entry in manifest.build.halved} == {(2, "decode")}
    assert manifest.build.halved[0].stop - manifest.build.halved[0].start == 4


def test_one_picture_that_does_not_fit_is_an_error_that_says_what_to_choose(tmp_path: Path) -> None:
    vae, _ = misbehaving(on_encode=too_large_above(0, MemoryError, ""))
    with pytest.raises(RequestError, match=r"One picture of 3x40x40 numbers does not fit into memory .*--tile"):
        build(plan(vae=vae), tmp_path)


def test_other_errors_of_a_network_are_not_taken_for_short_memory(tmp_path: Path) -> None:
    vae, seen = misbehaving(on_encode=too_large_above(0, RuntimeError, "shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        build(plan(vae=vae), tmp_path)
    assert len(seen) == 1
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_parts_are_put_together_in_order() -> None:
    batch = torch.arange(7.0)[:, None, None, None].expand(7, 3, 2, 2)
    compute = too_large_above(2, MemoryError, "")
    found, at_once = in_parts(lambda part: compute(part, LoadOptions()), batch)
    assert torch.equal(found, batch)
    assert at_once == 2


def test_a_build_has_no_field_for_what_did_not_happen(tmp_path: Path) -> None:
    manifest = build_scenes(tmp_path)
    assert (manifest.build.retried, manifest.build.halved) == ((), ())
    assert '"halved"' not in manifest.to_json()


def test_the_fastest_batch_size_is_measured_once_and_is_kept(tmp_path: Path) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    def stop(progress: Any) -> None:
        if progress.done:
            raise Stopped

    vae, seen = misbehaving(on_encode=too_large_above(8, MemoryError, ""))
    wanted = plan(vae=vae, find_batch_size=True, source=scenes(12, 16), rows_per_shard=4)
    with pytest.raises(Stopped):
        build(wanted, tmp_path, progress=stop)
    assert max(pictures for *_, pictures in seen) in (8, 16)
    measured = len(seen)
    manifest = build(wanted, tmp_path)
    assert manifest.build.batch_size in (1, 2, 4)  # twice as much fitted
    assert manifest.build.plan["batch_size"] == manifest.build.batch_size
    assert len(seen) - measured <= 2 * 12 + 3  # nothing was measured again: only the pictures, and the preview's
    assert build(replace(wanted, find_batch_size=False, batch_size=manifest.build.batch_size), tmp_path) == manifest


def test_the_vae_computes_with_the_threads_of_the_plan_whichever_thread_calls_it(tmp_path: Path) -> None:
    found: set[int] = set()

    def count(numbers: torch.Tensor, _: LoadOptions) -> torch.Tensor:
        torch.ones(1 << 16).add_(1)  # the first work of a new thread is what gives it its threads
        found.add(torch.get_num_threads())
        return numbers

    before = torch.get_num_threads()
    vae, _ = misbehaving(on_encode=count, on_decode=count)
    build(plan(vae=vae, threads=before + 2), tmp_path)
    assert found == {before + 2}
    assert torch.get_num_threads() == before


def test_another_number_of_threads_changes_latents_by_less_than_the_stated_tolerance(tmp_path: Path) -> None:
    for threads in (1, 3):
        wanted = plan(source=scenes(6, 32), vae=VAES["demo"], metrics=(), threads=threads)
        build(wanted, tmp_path / str(threads))
    one, three = latents(tmp_path / "1"), latents(tmp_path / "3")
    largest = np.abs(one).max(axis=(0, 2, 3), keepdims=True)
    assert (np.abs(one - three) <= largest * 2**-9).all()


def test_a_disk_that_takes_no_more_is_one_clear_sentence_and_the_next_run_goes_on(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))  # bytes in any one file, as if there were no room
    try:
        with pytest.raises(RequestError, match=r"Cannot write .*make room, then type it again"):
            build_scenes(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    build_scenes(tmp_path / "out")
    build_scenes(tmp_path / "plain")
    assert np.array_equal(latents(tmp_path / "out"), latents(tmp_path / "plain"))
