"""Which sequences a step sees, seeds of steps, batches with and without workers."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from train_runs import Endless

from lstmrep.train.batches import Batches, TensorFrames, stream
from lstmrep.train.sampler import StepSampler, mix, step_seed


@pytest.mark.parametrize("length", [1, 5, 12, 13])
def test_every_sequence_once_an_epoch(length):
    sampler = StepSampler(length, 4, seed=3)
    seen = [i for _, indices in sampler.steps(0, length) for i in indices]
    epochs = [seen[k : k + length] for k in range(0, len(seen), length)]
    assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    if length > 4:
        assert epochs[0] != epochs[1], "each epoch has its own order"


def test_a_step_needs_no_steps_before_it():
    first = dict(StepSampler(13, 4, seed=3).steps(0, 20))
    assert StepSampler(13, 4, seed=3).indices(17) == first[17]
    assert StepSampler(13, 4, seed=4).indices(17) != first[17]


def test_endless_data_are_read_in_order():
    assert StepSampler(None, 3).indices(10**9) == [3 * 10**9 + k for k in range(3)]


@pytest.mark.parametrize("length", [None, 13])
def test_ranks_share_the_batch_of_one_process(length):
    whole = StepSampler(length, 6, seed=1)
    parts = [StepSampler(length, 6, seed=1, rank=r, world=3) for r in range(3)]
    for step in (0, 1, 2, 9):
        assert [i for part in parts for i in part.indices(step)] == whole.indices(step)


def test_refusals():
    with pytest.raises(ValueError, match=r"batch_size is 5, expected a multiple of the 2 processes"):
        StepSampler(10, 5, world=2)
    with pytest.raises(ValueError, match="the data are empty"):
        StepSampler(0, 5)
    for data in (DataLoader(TensorDataset(torch.zeros(2))), 3):
        with pytest.raises(TypeError, match=rf"'data' is a {type(data).__name__}, expected a dataset"):
            Batches(data, 0)


def test_seeds_of_steps_differ_in_the_bits_that_are_read():
    seeds = [step_seed(5, step, rank, 2) for step in range(500) for rank in range(2)]
    assert len({s % 2**32 for s in seeds}) == len(seeds)
    assert step_seed(5, 0) != step_seed(6, 0)
    assert mix(1, 2) != mix(2, 1)


class Drawing:
    """Draws from torch's generator, as an augmentation would."""

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return torch.rand(2) + index, index


@pytest.mark.parametrize("workers", [0, 2])
def test_drawn_numbers_do_not_depend_on_the_process(workers):
    items = list(StepSampler(9, 2, seed=1).steps(3, 7))
    here = [Batches(Drawing(), 1)[item] for item in items]
    before = torch.get_rng_state()
    there = list(stream(Batches(Drawing(), 1), items, workers=workers, prefetch=2, pin=False))
    if not workers:
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for a, b in zip(here, there, strict=True) for p, q in zip(a, b, strict=True))
    assert here[0][1].tolist() == items[0][1]


def test_the_ways_to_ask_a_dataset_agree():
    class Lists(Endless):
        batch = None

        def __getitems__(self, indices):
            return list(Endless().batch(indices))

    del Lists.batch
    data = Lists()
    data.__dict__["batch"] = Endless().batch
    frames = Endless().batch(range(9))
    asked = (0, [4, 7])
    expected = Endless().batch([4, 7])
    for source in (Endless(), data, frames, TensorFrames(frames)):
        assert torch.equal(Batches(source, 0)[asked], expected)
    with_labels = Batches(TensorFrames(frames, torch.arange(9)), 0)[asked]
    assert torch.equal(with_labels[0], expected)
    assert with_labels[1].tolist() == [4, 7]
