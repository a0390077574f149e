"""Prompts of one mode only, for the data regimes of Figure 3: ``data.mode=direct`` or ``reason``."""

from typing import Any

from verl.utils.dataset.rl_dataset import RLHFDataset

from gream_ext.errors import GreamError
from gream_ext.plugins.verl import internals


class ModeDataset(RLHFDataset):
    """verl's dataset with the rows whose ``extra_info.mode`` is ``data.mode``."""

    def maybe_filter_out_long_prompts(self, dataframe: Any = None) -> Any:
        """verl's own filter, after ours: the one place between reading rows and using them."""
        internals.check("dataset")
        mode = self.config.get("mode")
        if mode not in ("direct", "reason"):
            raise GreamError(f"data.mode must be direct or reason, not {mode!r}")
        rows = dataframe.filter(lambda row: row["extra_info"]["mode"] == mode, keep_in_memory=True)
        if not len(rows):
            raise GreamError(f"{', '.join(map(str, self.data_files))}: no prompt is of the mode {mode}")
        return super().maybe_filter_out_long_prompts(rows)
