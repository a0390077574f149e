"""What verl and its queue say for every rollout is said once in a process: it was nearly all of a run's log."""

import logging

REPEATED = ("verl.utils.tokenizer.continuous_token_wiring", "transfer_queue.utils.common")
"""The loggers that do so."""


class Once(logging.Filter):
    """Lets every message through once in a process."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        new = message not in self.seen
        self.seen.add(message)
        return new


def register() -> None:
    for name in REPEATED:
        logger = logging.getLogger(name)
        if not any(isinstance(one, Once) for one in logger.filters):
            logger.addFilter(Once())
