"""Variance-guided sampling (section 5.3) as a replay buffer of verl.

``trainer.v1.sampler.custom_sampler`` names `GroupFilter`; its options are ``sampler_kwargs``.
Groups without signal are replaced by fresh prompts while others are still being made, at most
``max_refills`` batches of them in a step. When that is used up the step is trained on the groups
there are. When there are none, ``when_empty`` decides: ``skip`` hands verl a group without signal and
has it leave out the update of this step; ``fail`` ends the run.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from gream_ext.errors import GreamError
from gream_ext.plugins.demand import is_finite
from gream_ext.plugins.verl import internals
from gream_ext.plugins.verl.filter_options import read_options
from gream_ext.plugins.verl.groups import KEPT, Group, StepRecord, judge
from gream_ext.plugins.verl.rollout_options import ANCHOR

TRAIN = "train"


@dataclass
class Step:
    """A training step while its groups come back."""

    batch_size: int
    budget: int
    """Prompts that may still be asked for."""
    record: StepRecord = field(default_factory=StepRecord)
    kept: dict[str, Group] = field(default_factory=dict)
    spare: str | None = None
    """A group without signal, for a step that finds no other."""


class GroupFilter(ReplayBuffer):
    """verl's replay buffer for synchronous training, with our judgement of groups."""

    def __init__(self, **given: Any) -> None:
        internals.check("filter")
        if given.get("trainer_mode") != "sync":
            raise GreamError("our group filter works in verl's synchronous trainer: set trainer.v1.trainer_mode=sync")
        self.options = read_options(given.get("sampler_kwargs"))
        super().__init__(**given, poll_interval=self.options.poll_interval)
        self.trainer: Any = given["refill_fn"].__self__
        self.critic_warmup = self.trainer.config.trainer.critic_warmup
        self.rescaled = not self.options.rescale
        self.keep_rate = 1.0
        """The share of groups that the last step kept."""
        self.highest = 0
        """The highest level seen in this run, so that every step reports on the same levels."""

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict]:
        """``batch_size`` groups for training, or fewer; never waits for ever."""
        if partition_id != TRAIN:
            batch, metrics = super().sample(global_steps, partition_id, batch_size)
            return batch, metrics
        step = Step(batch_size, int(self.options.max_refills * batch_size) if self.options.enable else 0)
        self._gather(step)
        self.highest = max(self.highest, *step.record.levels, 0)
        self.keep_rate = len(step.kept) / len(step.record.groups)
        self._drop_surplus(step)
        self._prepare_update(step, global_steps)
        chosen, snapshot, _ = self._select_prompt_uids(TRAIN, set(step.kept) or {str(step.spare)}, batch_size)
        metrics = step.record.metrics(self.highest, self.options.srpo)
        metrics["gream/groups/missing"] = batch_size - len(step.kept)
        return self._materialize_batch(TRAIN, chosen, snapshot), metrics

    def _gather(self, step: Step) -> None:
        """Judge groups and ask for others, until there are enough or there is nothing to wait for."""
        progress = time.monotonic()
        while True:
            self._sync_metadata_from_transfer_queue()
            at_work = len(self.pending_keys[TRAIN]) + len(self.running_keys[TRAIN])
            judged = self._judge_finished(step)
            asked = self._refill(step, at_work)
            if not asked and at_work == 0 and (len(step.kept) >= step.batch_size or step.budget == 0):
                return
            if judged:
                progress = time.monotonic()
            elif time.monotonic() > progress + self.options.patience:
                raise GreamError(f"no rollout came back for {self.options.patience:g} s: see the log of the rollout")
            time.sleep(self.poll_interval)

    def _judge_finished(self, step: Step) -> int:
        """Keep what came back with a signal, clear the rest but one; how many groups that were."""
        finished = (self.finished_keys[TRAIN] | self.failure_keys[TRAIN]) - step.kept.keys() - {step.spare}
        for uid, group in self._groups(finished).items():
            verdict = judge(group, self.options.min_level)
            if not self.options.enable and group.values:
                verdict = KEPT
            step.record.groups.append((group, verdict))
            if verdict == KEPT:
                step.kept[uid] = group
            elif step.spare is None and group.values:
                step.spare = uid
            else:
                self._clear_groups(TRAIN, {uid})
        return len(finished)

    def _refill(self, step: Step, at_work: int) -> int:
        """Ask for the prompts that are missing, as far as the budget goes; how many were asked for."""
        short = step.batch_size - len(step.kept)
        missing = short - at_work
        if self.options.ahead and short > 0:
            # The last step's share counts like one batch.
            kept, judged = self.keep_rate * step.batch_size, len(step.record.groups)
            rate = (len(step.kept) + kept) / (judged + step.batch_size)
            missing = math.ceil(short / rate - at_work) if rate else step.batch_size
        asked = max(min(missing, step.budget), 0)
        if asked:
            step.budget -= asked
            step.record.refills += asked
            self.refill_fn(asked)
        return asked

    def _drop_surplus(self, step: Step) -> None:
        """Kept groups that the batch has no room for, and the one in reserve where it is not needed."""
        surplus = sorted(step.kept)[step.batch_size :]
        step.record.surplus = [step.kept.pop(uid) for uid in surplus]
        self._clear_groups(TRAIN, {*surplus, *({step.spare} if step.kept and step.spare else ())})

    def _prepare_update(self, step: Step, global_steps: int) -> None:
        """Have verl's trainer update the policy with this step's batch as it should, or not at all."""
        found = f"{step.record.refills} refills: {dict(step.record.verdicts)}"
        settings = self.trainer.config.trainer
        settings.critic_warmup = self.critic_warmup
        if not step.kept:
            if step.spare is None:
                raise GreamError("every rollout of this step failed: see the log of the rollout")
            nothing = f"none of {len(step.record.groups)} groups has rollouts of different rewards"
            if self.options.when_empty == "fail":
                raise GreamError(f"{nothing}, after {found}")
            # verl's own way to leave a policy alone. With its tokens masked the batch would still have
            # AdamW's momentum move the weights, and verl's rollout correction refuses a batch without a token.
            settings.critic_warmup = global_steps + 1
            print(f"gream: step skipped, {nothing}: the policy is left as it is")
        elif len(step.kept) < step.batch_size:
            print(f"gream: step on {len(step.kept)} of {step.batch_size} groups, there is no more after {found}")
        if not self.rescaled:
            workers, self.rescaled = self.trainer.actor_rollout_wg, True
            workers.update_actor = over_what_is_there(workers.update_actor)

    def _groups(self, uids: set[str]) -> dict[str, Group]:
        """What came back for each of these prompts."""
        keys: dict[str, list[str]] = {uid: [] for uid in sorted(uids)}
        for key in self.partitions[TRAIN]:
            if (uid := key.split("_")[0]) in keys:
                keys[uid].append(key)
        rows = [key for group in keys.values() for key in group]
        if not rows:
            return {uid: Group((), ()) for uid in keys}
        data = tq.kv_batch_get(keys=rows, partition_id=TRAIN, select_fields=["extra_fields"])
        fields = {key: getattr(found, "data", found) for key, found in zip(rows, data["extra_fields"], strict=True)}
        results = {key: self._result(key, found) for key, found in fields.items()}
        groups = {}
        for uid, group in keys.items():
            own = [results[key] for key in group if ANCHOR not in fields[key]]
            groups[uid] = Group(
                values=[int(results[key][self.options.metric]) for key in group],
                rewards=[float(result["score"]) for result in own],
                tokens=sum(int(self.partitions[TRAIN][key].get("response_len", 0)) for key in group),
                levels=[int(result["matched_levels"]) for result in own],
                well_formed=sum(bool(result["well_formed"]) for result in own),
                anchors=[fields[key][ANCHOR][1] for key in group if ANCHOR in fields[key]],
            )
        return groups

    def _result(self, key: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What the reward returned for a rollout; `GreamError` unless it has all that we go by."""
        result = dict(fields.get("reward_extra_info") or {})
        for name in ("score", "matched_levels", "well_formed", self.options.metric):
            if name not in result:
                raise GreamError(
                    f"the reward's result has no {name!r}, by which our group filter goes: use compute_score of "
                    "gream_ext.rewards, or a reward that returns the same keys"
                )
            whole = name in ("matched_levels", self.options.metric)
            if not is_finite(result[name]) or (whole and result[name] != int(result[name])):
                row = tq.kv_batch_get(keys=[key], partition_id=TRAIN, select_fields=["index"])["index"][0]
                raise GreamError(
                    f"rollout {key}, of the prompt with index {row}, has the {name} {result[name]!r}, which must be a "
                    f"{'whole' if whole else 'finite'} number: look at the reward, which returned {result}"
                )
        return result


def over_what_is_there(update: Callable[[KVBatchMeta], Any]) -> Callable[[KVBatchMeta], Any]:
    """verl's ``update_actor`` with eq. 22's mean over the rollouts of the batch, without those that fill it up.

    verl fills a batch up to whole mini-batches with masked rows and divides by their number too. Here it divides by
    the share of them that are rollouts: policy loss and KL term alike, and every rollout counts the same.
    """

    def update_actor(batch: KVBatchMeta) -> Any:
        there = sum(not tag.get("is_padding", False) for tag in batch.tags)
        batch.extra_info["global_batch_size"] *= there / len(batch)
        return update(batch)

    return update_actor
