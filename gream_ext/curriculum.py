"""The curriculum of section 4.3: when a reasoning batch joins the alignment batches.

In each of the first epochs the alignment batches run in a random order, and after the i-th of
them a reasoning batch is inserted with probability

    p_insert(i) = min(1, γ · i/N_align · N_reason/N_align)

without replacement; what is left of the reasoning batches is appended, so that every epoch sees
all data. i starts again at 1 in each epoch, and N counts the batches of that epoch. The last
epochs are a uniform mixture: a random permutation of all batches.

A batch holds rows of one kind. The last batch of a kind is filled up with other rows of that
kind and epoch, drawn again (fewer than one batch of rows per kind and epoch).

From rows to a trainer: `Curriculum.plan` is the order of all batches of a run, one epoch after
another; `CurriculumSampler` hands out the row numbers in this order. A trainer wants epochs of
one length, the curriculum's may differ by a few batches: the sampler cuts the whole order into
equal shares, which coincide with the epochs where those are equally long. The last share is
filled up with the first batches of the last epoch, drawn again (less than one step per epoch).

Only numpy is needed here. Everything follows from the seed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gream_ext.errors import GreamError

ALIGN, REASON, MIXED = 0, 1, 2
KINDS = ("align", "reason", "mixed")
"""Names of the kinds of a batch; only uniform mixing of samples makes mixed ones."""

CURRICULUM, LEFTOVER, UNIFORM, FILLED = 0, 1, 2, 3
PHASES = ("curriculum", "leftover", "uniform", "filled")
"""Why a batch stands where it stands."""


def insertion_probability(i: int, n_align: int, n_reason: int, gamma: float = 1.5) -> float:
    """The equation of section 4.3: chance that a reasoning batch follows alignment batch ``i``, from 1.

    >>> insertion_probability(5_000, n_align=10_000, n_reason=3_000)
    0.225
    """
    if n_align < 1 or n_reason < 0 or i < 1 or gamma < 0:
        raise ValueError(f"no probability for i={i}, n_align={n_align}, n_reason={n_reason}, gamma={gamma}")
    return float(_p_insert(np.float64(i), n_align, n_reason, gamma))


def _p_insert(i: np.ndarray | np.float64, n_align: int, n_reason: int, gamma: float) -> np.ndarray:
    return np.minimum(1.0, gamma * i * n_reason / (n_align * n_align))


def expected_insertions(n_align: int, n_reason: int, gamma: float = 1.5) -> float:
    """Sum of `insertion_probability` over i = 1 … n_align in closed form.

    It is the mean number of insertions as long as the reasoning batches last, and never above ``n_reason``.

    >>> round(expected_insertions(10_000, 3_000), 3)
    2250.225
    """
    slope = gamma * n_reason / (n_align * n_align) if n_align else 0.0
    rising = math.floor(1 / slope) if slope * n_align > 1 else n_align
    return min(float(n_reason), slope * rising * (rising + 1) / 2 + (n_align - rising))


@dataclass(frozen=True)
class Plan:
    """An order of batches; all arrays have one entry a batch."""

    epoch: np.ndarray
    """int16, from 1."""
    kind: np.ndarray
    """int8, index into `KINDS`."""
    planned: np.ndarray
    """float64: p_insert(i) of an alignment batch and of the reasoning batch inserted after it, the share of
    reasoning data in a uniform mixture, nan for a leftover."""
    phase: np.ndarray
    """int8, index into `PHASES`."""

    def __len__(self) -> int:
        return len(self.kind)


def curriculum_epoch(n_align: int, n_reason: int, gamma: float, rng: np.random.Generator, epoch: int = 1) -> Plan:
    """The order of one curriculum epoch with so many batches of each kind."""
    planned = _p_insert(np.arange(1.0, n_align + 1), n_align, n_reason, gamma)
    inserted = rng.random(n_align) < planned
    inserted &= np.cumsum(inserted) <= n_reason
    after = np.flatnonzero(inserted) + 1
    leftover = n_reason - len(after)
    kind = np.insert(np.full(n_align, ALIGN), after, REASON)
    return Plan(
        epoch=np.full(n_align + n_reason, epoch, np.int16),
        kind=np.append(kind, np.full(leftover, REASON)).astype(np.int8),
        planned=np.append(np.insert(planned, after, planned[inserted]), np.full(leftover, np.nan)),
        phase=np.repeat([CURRICULUM, LEFTOVER], [len(kind), leftover]).astype(np.int8),
    )


def uniform_epoch(
    n_align: int, n_reason: int, n_mixed: int, share: float, rng: np.random.Generator, epoch: int = 1
) -> Plan:
    """The order of one epoch of uniform mixing; ``share`` is that of reasoning rows among all rows."""
    kind = rng.permutation(np.repeat([ALIGN, REASON, MIXED], [n_align, n_reason, n_mixed])).astype(np.int8)
    size = len(kind)
    return Plan(np.full(size, epoch, np.int16), kind, np.full(size, share), np.full(size, UNIFORM, np.int8))


@dataclass(frozen=True)
class CurriculumSettings:
    """What the order of batches depends on, beside the rows."""

    epochs: int
    batch_rows: int
    """Rows of a batch, over all processes."""
    curriculum_epochs: int = 2
    """So many epochs insert; the others mix uniformly."""
    gamma: float = 1.5
    batches_per_step: int = 1
    """1 where a batch is an optimizer step, gradient_accumulation_steps where it is a micro-batch."""
    uniform_unit: str = "batch"
    """``batch`` permutes batches of one kind, ``sample`` permutes rows."""
    seed: int = 42


def plan_epoch(align_rows: int, reason_rows: int, epoch: int, settings: CurriculumSettings) -> Plan:
    """The order of batches in epoch ``epoch``, from 1, which has so many rows of each kind."""
    rng = np.random.default_rng([settings.seed, epoch, 0])
    n_align, n_reason, n_all = (
        -(-rows // settings.batch_rows) for rows in (align_rows, reason_rows, align_rows + reason_rows)
    )
    if epoch <= settings.curriculum_epochs:
        return curriculum_epoch(n_align, n_reason, settings.gamma, rng, epoch)
    share = reason_rows / max(1, align_rows + reason_rows)
    if settings.uniform_unit == "sample":
        return uniform_epoch(0, 0, n_all, share, rng, epoch)
    return uniform_epoch(n_align, n_reason, 0, share, rng, epoch)


@dataclass(frozen=True)
class Curriculum:
    """The order in which the rows of a data set are trained."""

    kinds: np.ndarray
    """[rows] `ALIGN` or `REASON`."""
    epochs: np.ndarray
    """[rows] the one epoch that a row belongs to, from 1; 0: every epoch."""
    settings: CurriculumSettings
    lengths: np.ndarray | None = None
    """[rows] tokens. With them the rows inside a batch run from short to long: micro-batches need less padding."""

    def __post_init__(self) -> None:
        for epoch in range(1, self.settings.epochs + 1):
            if not any(self.row_counts(epoch)):
                raise GreamError(
                    f"the curriculum has no row for epoch {epoch} of {self.settings.epochs}: train as many epochs as "
                    f"the `epoch` column of the data has ({max(self.epochs, default=0)}), or make data for more"
                )

    @cached_property
    def epoch_plans(self) -> list[Plan]:
        """The order of batches in each epoch."""
        epochs = range(1, self.settings.epochs + 1)
        return [plan_epoch(*self.row_counts(epoch), epoch, self.settings) for epoch in epochs]

    @cached_property
    def share_batches(self) -> int:
        """Batches in each of the equal shares, one share for each epoch of a trainer; a whole number of steps."""
        batches = sum(map(len, self.epoch_plans))
        return self.settings.batches_per_step * -(-batches // (self.settings.epochs * self.settings.batches_per_step))

    @cached_property
    def plan(self) -> Plan:
        """The order of all batches of the run, filled up to equal shares."""
        plans, last = self.epoch_plans, self.epoch_plans[-1]
        planned = sum(map(len, plans))
        again = np.resize(np.arange(len(last)), self.share_batches * self.settings.epochs - planned)
        whole = {
            column: np.concatenate([*(getattr(plan, column) for plan in plans), getattr(last, column)[again]])
            for column in ("epoch", "kind", "planned", "phase")
        }
        whole["phase"][planned:] = FILLED
        return Plan(**whole)

    def rows(self, epoch: int, kind: int) -> np.ndarray:
        """Numbers of the rows of a kind that epoch ``epoch`` trains; `MIXED`: of both kinds."""
        of_kind = np.ones(len(self.kinds), bool) if kind == MIXED else self.kinds == kind
        return np.flatnonzero(of_kind & ((self.epochs == 0) | (self.epochs == epoch)))

    def row_counts(self, epoch: int) -> tuple[int, int]:
        """How many alignment and reasoning rows epoch ``epoch`` trains."""
        return len(self.rows(epoch, ALIGN)), len(self.rows(epoch, REASON))

    def batches(self, epoch: int) -> np.ndarray:
        """[batches of the epoch, batch_rows] row numbers, in the order of the plan."""
        rng = np.random.default_rng([self.settings.seed, epoch, 1])
        kind = self.epoch_plans[epoch - 1].kind
        ordered = np.empty((len(kind), self.settings.batch_rows), np.int64)
        for one in np.unique(kind):
            ordered[kind == one] = _cut(self.rows(epoch, one), self.settings.batch_rows, rng)
        return ordered

    def share(self, number: int) -> Iterator[np.ndarray]:
        """The batches of share ``number``, from 0: [batch_rows] row numbers each."""
        starts = np.cumsum([0, *map(len, self.epoch_plans)])
        loaded, batches = 0, np.empty(0)
        for position in range(number * self.share_batches, (number + 1) * self.share_batches):
            # Positions after the last epoch are its filling: the same epoch from its start.
            start = starts[np.searchsorted(starts, position, side="right") - 1]
            epoch = int(self.plan.epoch[position])
            if epoch != loaded:
                loaded, batches = epoch, self.batches(epoch)
            batch = batches[(position - start) % len(batches)]
            yield batch if self.lengths is None else batch[np.argsort(self.lengths[batch], kind="stable")]


def _cut(rows: np.ndarray, batch_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Shuffle rows and cut them into batches; the last one is filled with rows drawn again, its own rows last."""
    rows = rng.permutation(rows)
    full = len(rows) // batch_rows * batch_rows
    missing = -len(rows) % batch_rows
    again = np.append(rng.permutation(rows[:full]), rng.permutation(rows[full:]))
    return np.append(rows, np.resize(again, missing)).reshape(-1, batch_rows)


class CurriculumSampler:
    """Row numbers for a torch ``DataLoader`` whose batches, over all processes, are cut from them in order.

    One pass is one share. The trainer must set ``epoch`` (from 0) before each pass: the sampler has no
    ``set_epoch`` on purpose, because under DDP nobody calls it after a resume.
    """

    def __init__(self, curriculum: Curriculum):
        self.curriculum = curriculum
        self.epoch = 0

    def __len__(self) -> int:
        return self.curriculum.share_batches * self.curriculum.settings.batch_rows

    def __iter__(self) -> Iterator[int]:
        for batch in self.curriculum.share(self.epoch):
            yield from batch.tolist()
