"""Plans: ranks, memory, time, for a board and a budget."""

from .choose import Budget, Candidate, Choice, Choices, choices, choose, file_costs, frontier
from .cost import passes_of, predict
from .plan import Plan, layer_plans, plan
from .plan_file import load_plan, save_plan
from .sensitivity import METHODS, Gains, Sensitivity, sensitivity, weight_gradients

__all__ = [
    "Budget",
    "Candidate",
    "Choice",
    "Choices",
    "Gains",
    "METHODS",
    "Plan",
    "Sensitivity",
    "choices",
    "choose",
    "file_costs",
    "frontier",
    "layer_plans",
    "load_plan",
    "passes_of",
    "plan",
    "predict",
    "save_plan",
    "sensitivity",
    "weight_gradients",
]
