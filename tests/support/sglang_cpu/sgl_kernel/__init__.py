"""TEST SUPPORT ONLY: stands in for SGLang's compiled kernels, of which no registry has a CPU build.

On a CPU SGLang imports functions whose names end in ``_cpu`` from here; with the attention backend ``torch_native`` and
a page size of 1 it calls none of them, and whoever does gets an error. Never part of the package.
"""

from typing import Any, NoReturn

__version__ = "0.4.10"


def __getattr__(name: str) -> Any:
    if not name.endswith("_cpu"):
        raise AttributeError(f"the stub sgl_kernel of gream-ext's tests has no {name}")

    def kernel(*arguments: Any, **named: Any) -> NoReturn:
        raise NotImplementedError(f"sgl_kernel.{name} is a stub of gream-ext's tests: it computes nothing")

    return kernel
