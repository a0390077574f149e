"""Variance-guided sampling (section 5.3) as a replay buffer of verl.

``trainer.v1.sampler.custom_sampler`` names `GroupFilter`; its options are ``sampler_kwargs``.
Groups without signal are replaced by fresh prompts while others are still being made, at most
``max_refills`` batches of them in a step. When that is used up the step is trained on the groups
there are. When there are none, ``when_empty`` decides: ``skip`` hands verl one group whose tokens
are masked: no gradient, so that only AdamW's momentum and weight decay still move the weights a little;
``fail`` ends the run.
"""

import math
import time
from typing import Any

import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from gream_ext.errors import GreamError
from gream_ext.plugins.verl import internals
from gream_ext.plugins.verl.filter_options import read_options
from gream_ext.plugins.verl.groups import KEPT, Group, StepRecord, judge

TRAIN = "train"


class GroupFilter(ReplayBuffer):
    """verl's replay buffer for synchronous training, with our judgement of groups."""

    def __init__(self, **given: Any) -> None:
        internals.check("filter")
        if given.get("trainer_mode") != "sync":
            raise GreamError("our group filter works in verl's synchronous trainer: set trainer.v1.trainer_mode=sync")
        self.options = read_options(given.get("sampler_kwargs"))
        super().__init__(**given, poll_interval=self.options.poll_interval)
        self.keep_rate = 1.0
        """The share of groups that the last step kept."""
        self.highest = 0
        """The highest level seen in this run, so that every step reports on the same levels."""

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict]:
        """``batch_size`` groups for training, or fewer; never waits for ever."""
        if partition_id != TRAIN:
            batch, metrics = super().sample(global_steps, partition_id, batch_size)
            return batch, metrics
        record = StepRecord()
        kept: dict[str, Group] = {}
        spare: str | None = None
        budget = int(self.options.max_refills * batch_size) if self.options.enable else 0
        progress = time.monotonic()
        while True:
            self._sync_metadata_from_transfer_queue()
            at_work = len(self.pending_keys[TRAIN]) + len(self.running_keys[TRAIN])
            done = (self.finished_keys[TRAIN] | self.failure_keys[TRAIN]) - kept.keys() - {spare}
            for uid, group in self._groups(done).items():
                verdict = judge(group, self.options.min_level)
                if not self.options.enable and group.values:
                    verdict = KEPT
                record.add(group, verdict)
                if verdict == KEPT:
                    kept[uid] = group
                elif spare is None and group.values:
                    spare = uid
                else:
                    self._clear_groups(TRAIN, {uid})
            missing = min(self._missing(batch_size, len(kept), at_work, record), budget)
            if missing > 0:
                budget -= missing
                record.refills += missing
                self.refill_fn(missing)
            elif at_work == 0 and (len(kept) >= batch_size or budget == 0):
                break
            if done or missing > 0:
                progress = time.monotonic()
            elif time.monotonic() > progress + self.options.patience:
                raise GreamError(f"no rollout came back for {self.options.patience:g} s: see the log of the rollout")
            time.sleep(self.poll_interval)
        self.highest = max(self.highest, *record.levels, 0)
        self.keep_rate = len(kept) / record.verdicts.total()
        if surplus := sorted(kept)[batch_size:]:
            record.drop(kept.pop(uid) for uid in surplus)
            self._clear_groups(TRAIN, set(surplus))
        metrics = record.metrics(self.highest, self.options.srpo)
        metrics["gream/groups/missing"] = batch_size - len(kept)
        if 0 < len(kept) < batch_size:
            print(
                f"gream: step on {len(kept)} of {batch_size} groups, there is no more after {record.refills} refills: "
                f"{dict(record.verdicts)}"
            )
        trained = set(kept) or self._without_signal(spare, record)
        if kept and spare is not None:
            self._clear_groups(TRAIN, {spare})
        chosen, snapshot, _ = self._select_prompt_uids(TRAIN, trained, batch_size)
        return self._materialize_batch(TRAIN, chosen, snapshot), metrics

    def _missing(self, batch_size: int, kept: int, at_work: int, record: StepRecord) -> int:
        """How many prompts to ask for now."""
        if not self.options.ahead or kept >= batch_size:
            return batch_size - kept - at_work
        # The last step's share counts like one batch.
        rate = (kept + self.keep_rate * batch_size) / (record.verdicts.total() + batch_size)
        return math.ceil((batch_size - kept) / rate - at_work) if rate else batch_size

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
        results = {key: self._result(fields) for key, fields in zip(rows, list(data["extra_fields"]), strict=True)}
        lengths = {key: int(self.partitions[TRAIN][key].get("response_len", 0)) for key in rows}
        return {
            uid: Group(
                values=[int(results[key][self.options.metric]) for key in group],
                rewards=[float(results[key]["score"]) for key in group],
                tokens=sum(lengths[key] for key in group),
                levels=[int(results[key]["matched_levels"]) for key in group],
                well_formed=sum(bool(results[key]["well_formed"]) for key in group),
            )
            for uid, group in keys.items()
        }

    def _result(self, fields: Any) -> dict[str, Any]:
        fields = getattr(fields, "data", fields)
        result = dict(fields.get("reward_extra_info") or {})
        for name in ("score", "matched_levels", "well_formed", self.options.metric):
            if name not in result:
                raise GreamError(
                    f"the reward's result has no {name!r}, by which our group filter goes: use compute_score of "
                    "gream_ext.rewards, or a reward that returns the same keys"
                )
        return result

    def _without_signal(self, spare: str | None, record: StepRecord) -> set[str]:
        """No group is of use: one of them with its tokens masked, so that verl has a batch and learns nothing."""
        if spare is None:
            raise GreamError("every rollout of this step failed: see the log of the rollout")
        if self.options.when_empty == "fail":
            raise GreamError(
                f"none of {record.verdicts.total()} groups has rollouts of different rewards, after "
                f"{record.refills} refills: {dict(record.verdicts)}"
            )
        keys = [key for key in self.partitions[TRAIN] if key.split("_")[0] == spare]
        data = tq.kv_batch_get(keys=keys, partition_id=TRAIN, select_fields=["response_mask", "loss_mask"])
        for name in ("response_mask", "loss_mask"):
            data[name] = torch.zeros_like(data[name])
        tq.kv_batch_put(keys=keys, partition_id=TRAIN, fields=data)
        print(
            f"gream: step skipped, none of {record.verdicts.total()} groups has rollouts of different rewards: no "
            "gradient, what still moves the weights a little is the optimizer's momentum and weight decay"
        )
        return {spare}
