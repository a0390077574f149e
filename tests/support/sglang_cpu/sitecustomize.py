"""TEST SUPPORT ONLY: lets SGLang be imported on a machine without an accelerator. Never part of the package.

Python runs this file at its start when this folder stands on ``PYTHONPATH``. The registries' torchvision is built for
CUDA and cannot load its operators beside a CPU build of torch; `import torchvision` then fails although no operator of
it is ever called here. Just before torchvision is imported we define the operators' schemas without any implementation.
The other half is the stub ``sgl_kernel`` beside this file.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
POOL = "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
SCHEMAS = (
    f"nms{BOXES}",
    f"qnms{BOXES}",
    f"roi_align{POOL}, int sampling_ratio, bool aligned) -> Tensor",
    f"roi_pool{POOL}) -> (Tensor, Tensor)",
    f"ps_roi_align{POOL}, int sampling_ratio) -> (Tensor, Tensor)",
    f"ps_roi_pool{POOL}) -> (Tensor, Tensor)",
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, "
    "SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, "
    "SymInt offset_groups, bool use_mask) -> Tensor",
)
kept: list[object] = []


class BeforeTorchvision(MetaPathFinder):
    """Defines the schemas when torchvision is looked for; finds nothing itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            define()
        return None


def define() -> None:
    """The operators of torchvision, as far as its import asks for them, without any implementation."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    kept.append(library)


sys.meta_path.insert(0, BeforeTorchvision())
