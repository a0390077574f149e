"""Whether this machine multiplies bfloat16, or would only imitate it."""

import re
from pathlib import Path

CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""Of /proc/cpuinfo; the last is Arm's."""


def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """The accelerator torch would use, or else the processor, has instructions for it."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return False
    return bool(flags) and any(flag in flags[0].split() for flag in CPU_FLAGS)
