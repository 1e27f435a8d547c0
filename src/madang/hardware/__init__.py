"""hardware: what this machine is, what fits on it, and the settings that follow.

Main path: :func:`probe_machine` -> :class:`Machine` -> :func:`make_plan` -> :class:`Plan`.
Invariants: what is unknown is None; every automatic choice carries its reason; a load that cannot fit is refused before
anything is allocated.
"""

from madang.hardware.bandwidth import Bandwidth, choose_buffer_bytes, measure_read_bandwidth
from madang.hardware.choice import Choice, Reason
from madang.hardware.forecast import (
    Matrices,
    Work,
    forecast_decode,
    forecast_prompt,
    predict_decode,
    row_elements,
    work_of,
)
from madang.hardware.kv_cache import PageGroups, fitting_tokens, kv_cache_bytes, page_groups
from madang.hardware.machine import Gpu, Machine
from madang.hardware.memory import (
    MemoryEstimate,
    estimate_weights_bytes,
    largest_model_bytes,
    packed_weights_bytes,
    working_bytes,
)
from madang.hardware.placement import Placement, PlacementRequest
from madang.hardware.plan import Plan, PlanRequest, WeightFiles, make_plan, outline_plan
from madang.hardware.probe import probe_machine
from madang.hardware.profile import CacheSpeed, MachineProfile, TypeSpeed, read_profile, save_profile

__all__ = [
    "Bandwidth",
    "CacheSpeed",
    "Choice",
    "Gpu",
    "Machine",
    "MachineProfile",
    "Matrices",
    "MemoryEstimate",
    "PageGroups",
    "Placement",
    "PlacementRequest",
    "Plan",
    "PlanRequest",
    "Reason",
    "TypeSpeed",
    "WeightFiles",
    "Work",
    "choose_buffer_bytes",
    "estimate_weights_bytes",
    "fitting_tokens",
    "forecast_decode",
    "forecast_prompt",
    "kv_cache_bytes",
    "largest_model_bytes",
    "make_plan",
    "measure_read_bandwidth",
    "outline_plan",
    "packed_weights_bytes",
    "page_groups",
    "predict_decode",
    "probe_machine",
    "read_profile",
    "row_elements",
    "save_profile",
    "work_of",
    "working_bytes",
]
