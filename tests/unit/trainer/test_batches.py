"""The order of batches and how they are cut."""

from hypothesis import given
from hypothesis import strategies as st

from services.trainer.training.examples import epoch_batches, forward_passes

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=300)


@given(LENGTHS, st.integers(1, 32), st.integers(0, 5))
def test_an_epoch_takes_every_example_once(lengths: list[int], batch_size: int, epoch: int) -> None:
    batches = epoch_batches(lengths, batch_size, seed=1, epoch=epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == len(epoch_batches(lengths, batch_size, seed=2, epoch=epoch + 1))


def test_the_order_follows_seed_and_epoch_alone() -> None:
    lengths = list(range(1, 200))
    order = epoch_batches(lengths, 8, seed=1, epoch=0)
    assert order == epoch_batches(lengths, 8, seed=1, epoch=0)
    assert order != epoch_batches(lengths, 8, seed=1, epoch=1)
    assert order != epoch_batches(lengths, 8, seed=2, epoch=0)


def test_rows_of_like_length_go_together() -> None:
    lengths = [10, 300] * 200
    batches = epoch_batches(lengths, 16, seed=0, epoch=0)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.2 * sum(lengths)


@given(LENGTHS, st.integers(1, 2000))
def test_forward_passes_hold_every_row_once_and_stay_within_their_tokens(lengths: list[int], limit: int) -> None:
    passes = forward_passes(range(len(lengths)), lengths, limit)
    assert sorted(index for taken in passes for index in taken) == list(range(len(lengths)))
    for taken in passes:
        assert len(taken) == 1 or len(taken) * max(lengths[i] for i in taken) <= limit


def test_a_worker_without_rows_still_takes_its_pass() -> None:
    assert forward_passes([], [], 100) == [[]]
