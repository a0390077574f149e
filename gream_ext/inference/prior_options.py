"""The options of a prior in the beam, as the commands have them; imports nothing."""

from typing import Literal

PriorName = Literal["co-occurrence"]
PRIOR_HELP = "direct mode: guide the beam by counts of training pairs, too; its figures stand apart from the model's"
WEIGHT_HELP = "how much the prior counts beside the model; choose it on validation users"
WEIGHT = 1.0
