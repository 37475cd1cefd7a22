"""What every data set in `conf/dataset` keeps to; a new one is picked up by its YAML file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from creditlab.config import bind_target
from creditlab.datasets.base import Dataset, moments
from creditlab.datasets.rows import Rows

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "dataset").glob("*.yaml"))
Build = Callable[..., Dataset]


def having(*names: str) -> pytest.MarkDecorator:
    """Only the data sets with these keys."""
    those = [path for path in CONFIGS if set(names) <= set(yaml.safe_load(path.read_text()))]
    return pytest.mark.parametrize("keys", those, indirect=True, ids=lambda path: path.stem)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def keys(request: pytest.FixtureRequest, small_root: Path) -> dict:
    keys = yaml.safe_load(request.param.read_text())
    if "context" in keys:
        keys |= {"test_limit": 20}
    return keys | ({"root": str(small_root)} if "root" in keys else {})


def of_text(data: Dataset) -> bool:
    """Whether inputs are tokens, which stay as they are."""
    return data.task.tokens is not None


@pytest.fixture
def build(keys: dict) -> Build:
    return lambda **changed: bind_target(keys | changed)()


def digest(*tensors: Tensor) -> str:
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


def test_holds_everything_in_memory(build: Build, keys: dict) -> None:
    data = build()
    for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
        assert len(x) == len(y) > 0
        assert tuple(x.shape[1:]) == data.task.input_shape
        assert x.is_contiguous() or of_text(data)  # whose windows are views
        assert y.dtype == torch.int64 or of_text(data)  # whose labels are views too
        assert 0 <= y.min() <= y.max() < data.task.classes
    assert data.train_x.dtype == (torch.float32 if "kind" in keys else torch.uint8)
    assert len(data.validation_y) == 0


def test_batch(build: Build) -> None:
    data = build()
    indices = torch.tensor([5, 0, 5, 17])
    x, y = data.batch(indices)
    assert x.shape == (4, *data.task.input_shape)
    assert x.dtype == (torch.int64 if of_text(data) else torch.float32)
    assert y.dtype == torch.int64
    assert torch.equal(y, data.train_y[indices].long())
    assert torch.equal(x, data.normalise(data.train_x)[indices])
    assert not data.augments


def test_inputs_lie_between_low_and_high(build: Build) -> None:
    data = build()
    x = data.normalise(data.train_x)
    assert x.min() >= data.task.low - 1e-6
    assert x.max() <= data.task.high + 1e-6
    assert x.min() == pytest.approx(data.task.low, abs=0.2)  # reached, on one channel at least
    assert x.max() == pytest.approx(data.task.high, abs=0.2)


def test_float64_is_computed_in_float64(build: Build) -> None:
    data = build()
    single = data.normalise(data.test_x)
    data.to(torch.device("cpu"), torch.float64)
    double = data.normalise(data.test_x)
    assert double.dtype == (torch.int64 if of_text(data) else torch.float64)
    torch.testing.assert_close(single.double(), double.double(), rtol=1e-5, atol=1e-6)
    if data.train_x.dtype == torch.uint8 and not of_text(data):
        assert not torch.equal(single.double(), double)


@having("normalise")
def test_standard_normalisation(build: Build, keys: dict) -> None:
    data = build()
    data.to(torch.device("cpu"), torch.float64)
    x = data.normalise(data.train_x).transpose(0, 1).flatten(1)  # (channels, all)
    torch.testing.assert_close(x.mean(1), torch.zeros(len(x), dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(x.std(1, correction=0), torch.ones(len(x), dtype=torch.float64), rtol=0, atol=1e-12)


@having("normalise")
def test_unit_normalisation(build: Build, keys: dict) -> None:
    data = build(normalise="unit")
    x = data.normalise(data.train_x)
    assert (x.min(), x.max()) == (0, 1)
    assert (data.task.low, data.task.high) == (0, 1)
    torch.testing.assert_close(x, data.train_x.float() / data.train_x.max())


def tensor(part: torch.Tensor | Rows) -> torch.Tensor:
    return part.copy() if isinstance(part, Rows) else part


def test_split_copies_no_sample(build: Build) -> None:
    """The parts are rows of one tensor, which batches and chunks are taken from."""
    data = build(validation=0.25)
    x = data.train_x
    data.split(3)
    if of_text(data):
        return  # its parts are views
    data.to(torch.device("cpu"), torch.float64)
    assert {part.whole.data_ptr() for part in (data.train_x, data.validation_x)} == {x.data_ptr()}
    order = torch.cat([data.train_x.indices, data.validation_x.indices])
    assert sorted(order.tolist()) == list(range(len(x)))
    inputs, labels = data.batch(torch.tensor([2, 0]))
    assert torch.equal(inputs, data.normalise(x[data.train_x.indices[[2, 0]]]))
    assert torch.equal(labels, data.train_y.copy()[[2, 0]].long())
    assert torch.equal(torch.cat(list(data.validation_x.split(3))), x[data.validation_x.indices])


def test_split_holds_out_by_seed(build: Build) -> None:
    whole, one, same, other = (build(validation=0.25) for _ in range(4))
    for data, seed in ((one, 1), (same, 1), (other, 2)):
        data.split(seed)
    n = len(whole.train_y)
    assert len(one.validation_y) == (20 if of_text(whole) else round(n / 4))
    assert len(one.train_y) == n - round(n / 4)
    parts = [[tensor(data.train_x), tensor(data.validation_x)] for data in (one, same)]
    assert digest(*parts[0]) == digest(*parts[1])
    same_train = digest(tensor(one.train_x)) == digest(tensor(other.train_x))
    assert same_train == of_text(whole)  # a text is cut, not drawn from
    assert digest(one.test_x, one.test_y) == digest(other.test_x, other.test_y)

    def samples(data: Dataset) -> list[bytes]:
        xs = torch.cat([tensor(data.train_x), tensor(data.validation_x)])
        ys = torch.cat([tensor(data.train_y), tensor(data.validation_y)])
        return sorted(x.numpy().tobytes() + bytes([y]) for x, y in zip(xs, ys.tolist(), strict=True))

    if not of_text(whole):  # of whose validation windows 20 are kept
        assert samples(one) == samples(whole)


def test_split_without_validation(build: Build) -> None:
    data = build()
    before = digest(data.train_x, data.train_y)
    data.split(1)
    assert digest(data.train_x, data.train_y) == before
    assert len(data.validation_y) == 0


def test_validation_that_leaves_nothing(build: Build) -> None:
    with pytest.raises(ValueError, match=r"validation=0\.99999 leaves none of the \d+ samples to train on"):
        build(validation=0.99999)


def test_validation_that_comes_to_nothing(build: Build) -> None:
    with pytest.raises(ValueError, match=r"validation=1e-09 holds out none of \d+ samples: raise it, or give 0"):
        build(validation=1e-9)


@having("limit")
def test_limit_keeps_nested_subsets(build: Build, keys: dict) -> None:
    few, more, whole = build(limit=5), build(limit=20), build()
    assert (len(few.train_y), len(more.train_y)) == (5, 20)
    assert torch.equal(few.train_x, more.train_x[:5])
    assert torch.equal(few.train_y, more.train_y[:5])
    pool = {x.numpy().tobytes() for x in whole.train_x}
    assert len({x.numpy().tobytes() for x in more.train_x} & pool) == 20
    assert len(few.test_y) == len(whole.test_y)
    assert few.task == whole.task  # the normalisation too
    n = len(whole.train_y)
    with pytest.raises(ValueError, match=f"limit={n + 1}: there are {n} samples"):
        build(limit=n + 1)


@having("test_limit")
def test_test_limit(build: Build, keys: dict) -> None:
    data, whole = build(test_limit=7), build()
    assert len(data.test_y) == 7
    assert digest(data.train_x) == digest(whole.train_x)
    n = len(build(test_limit=None).test_y)
    with pytest.raises(ValueError, match=f"test_limit={n + 1}: there are {n} samples"):
        build(test_limit=n + 1)


@having("pad")
def test_pad(build: Build, keys: dict) -> None:
    data, plain = build(pad=2), build()
    c, h, w = plain.task.input_shape
    assert data.task.input_shape == (c, h + 4, w + 4)
    for padded, x in ((data.train_x, plain.train_x), (data.test_x, plain.test_x)):
        assert torch.equal(padded[:, :, 2:-2, 2:-2], x)
        assert padded.sum() == x.sum()
    assert (data.task.low, data.task.high) == (plain.task.low, plain.task.high)


@having("crop", "flip")
def test_augmentation_is_by_the_generator(build: Build, keys: dict) -> None:
    indices = torch.arange(40)
    plain, _ = build().batch(indices)

    def augmented(seed: int, **changed: object) -> Tensor:
        data = build(**changed)
        assert data.augments
        x, y = data.batch(indices, torch.Generator().manual_seed(seed))
        assert torch.equal(y, data.train_y[indices])
        assert torch.equal(data.batch(indices)[0], plain)
        return x

    assert torch.equal(augmented(1, crop=4, flip=True), augmented(1, crop=4, flip=True))
    assert not torch.equal(augmented(1, crop=4), augmented(2, crop=4))
    flipped = augmented(1, flip=True)
    mirrored = torch.tensor([torch.equal(a, b.flip(2)) for a, b in zip(flipped, plain, strict=True)])
    assert all(m or torch.equal(a, b) for a, b, m in zip(flipped, plain, mirrored, strict=True))
    assert 10 < mirrored.sum() < 30
    low = build().normalise(torch.zeros_like(build().train_x[:1]))
    moved = augmented(1, crop=4)
    assert (moved == low).any(0)[..., 0, 0].all()  # black moves in at the corner of every channel


def test_one_process_reads_once_and_shares_what_it_read(build: Build) -> None:
    first = build()
    before = digest(first.train_x, first.train_y, first.test_x, first.test_y)
    second = build(validation=0.5)
    assert second.train_x.data_ptr() == first.train_x.data_ptr()
    second.split(0)
    second.to(torch.device("cpu"), torch.float64)
    second.batch(torch.arange(5), torch.Generator().manual_seed(0) if second.augments else None)
    second.normalise(second.test_x)
    third = build()
    assert digest(third.train_x, third.train_y, third.test_x, third.test_y) == before
    assert len(third.train_y) == len(first.train_y)


def test_moments_are_exact() -> None:
    images = torch.randint(0, 256, (50, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 2] = 7
    mean, std = moments(images)
    x = images.double()
    torch.testing.assert_close(mean, x.mean((0, 2, 3))[:, None, None], rtol=1e-13, atol=0)
    torch.testing.assert_close(std[:2], x.std((0, 2, 3), correction=0)[:2, None, None], rtol=1e-13, atol=0)
    assert (mean[2], std[2]) == (7, 1)  # a channel that never varies is left alone


def test_require_of_data_that_need_no_files() -> None:
    Dataset.require(anything=1)
