"""Benchmarks: a module for each `edgelora bench`."""

from .anomaly import METHODS, bench_anomaly, scores_by_method
from .classes import CLASS_FIGURES, base_without, bench_classes, time_classes
from .continual import SLOTS, bench_continual
from .cost import calibrate, check_all
from .energy import bench_energy
from .fleet import CHOICES, PARTS, bench_fleet
from .fleet import ENGINES as FLEET_ENGINES
from .frontend import bench_frontend, bench_many_values
from .host import bench_host
from .kernels import bench_kernels
from .learning import TASKS, bench_learning, keyword_elm, mean_and_error
from .link import bench_link
from .model import bench_model
from .qat import bench_qat
from .ranks import bench_ranks
from .swap import COUNTS, bench_swap, layers_and_adapters
from .trust import CASES, bench_trust
from .wakewords import SPOKEN, bench_wakewords

__all__ = [
    "CHOICES",
    "CLASS_FIGURES",
    "FLEET_ENGINES",
    "PARTS",
    "SLOTS",
    "SPOKEN",
    "CASES",
    "COUNTS",
    "METHODS",
    "TASKS",
    "bench_anomaly",
    "base_without",
    "bench_classes",
    "bench_continual",
    "bench_energy",
    "bench_fleet",
    "bench_frontend",
    "bench_host",
    "bench_kernels",
    "bench_learning",
    "bench_link",
    "bench_many_values",
    "bench_model",
    "bench_qat",
    "bench_ranks",
    "bench_swap",
    "layers_and_adapters",
    "bench_trust",
    "bench_wakewords",
    "calibrate",
    "check_all",
    "keyword_elm",
    "scores_by_method",
    "mean_and_error",
    "time_classes",
]
