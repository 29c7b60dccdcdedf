"""Training of adapters, on the host twin and on boards."""

from .base import (
    Base,
    WorkflowError,
    accuracy,
    adapter_ranks,
    is_named,
    load_adapter,
    load_base,
    load_part,
    pretrained_har,
    pretrained_kws,
)
from .blend import Blend, BlendedLayer, blend
from .board_learner import ADAPTER_PATH, BoardLearner, recomputed
from .guard import Course, Guard, Judged, Verdict, prepared
from .lifelong import Lifelong
from .listening import Vote, listen_on_board, listen_on_twin, signal_of
from .loop import confusion, train
from .measure import Measure, answers, errors, loss_unit, measured
from .on_board import NAME, Pace, Suspended
from .on_host import Trainer, as_board, split, train_adapter
from .personalize import BoardRun, TwinRun, _profile, float_baseline, load_parts, personalize_board, repeat_on_twin
from .qat import KEPT, RECIPE, train_qat
from .recipe import (
    CACHES,
    LEARNING_RATES,
    LEAST_EPOCHS,
    LEAST_UPDATES,
    LIMITS,
    MODES,
    MOMENTA,
    PLACEMENTS,
    Recipe,
    placed,
)
from .recompute import activation, again_macs, choose_recompute, smallest_arena
from .remarks import Remarks, remarks
from .reservoir import Reservoir
from .samples import Samples, schedule
from .twin_learner import TwinLearner, most_summed, train_twin

__all__ = [
    "ADAPTER_PATH",
    "Base",
    "Blend",
    "BlendedLayer",
    "BoardLearner",
    "BoardRun",
    "CACHES",
    "Course",
    "Guard",
    "Judged",
    "Verdict",
    "prepared",
    "KEPT",
    "LEARNING_RATES",
    "LEAST_EPOCHS",
    "LEAST_UPDATES",
    "LIMITS",
    "Lifelong",
    "MODES",
    "MOMENTA",
    "PLACEMENTS",
    "Measure",
    "NAME",
    "Pace",
    "RECIPE",
    "Recipe",
    "Remarks",
    "Reservoir",
    "Samples",
    "Suspended",
    "Trainer",
    "TwinLearner",
    "TwinRun",
    "Vote",
    "WorkflowError",
    "_profile",
    "accuracy",
    "activation",
    "adapter_ranks",
    "again_macs",
    "answers",
    "as_board",
    "blend",
    "choose_recompute",
    "confusion",
    "errors",
    "float_baseline",
    "is_named",
    "listen_on_board",
    "listen_on_twin",
    "load_adapter",
    "load_base",
    "load_part",
    "load_parts",
    "loss_unit",
    "measured",
    "most_summed",
    "personalize_board",
    "placed",
    "pretrained_har",
    "pretrained_kws",
    "recomputed",
    "remarks",
    "repeat_on_twin",
    "schedule",
    "signal_of",
    "smallest_arena",
    "split",
    "train",
    "train_adapter",
    "train_qat",
    "train_twin",
]
