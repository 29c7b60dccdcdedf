"""What is left of a run: records, figures, pages."""

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .compare import comparison, differences, write_comparison
    from .conclusion import Conclusion, State, conclude
    from .curves import PARTIAL, auc, partial_auc, roc
    from .fleet_page import FleetReport, FleetRound, mean_of, worst_tenth, write_fleet_page
    from .machine_page import NAMES, MachineReport, Method, write_machine_page
    from .measures import Accuracy, Error
    from .metrics import End, Metrics, Update, follow, read_metrics
    from .of_run import make_report
    from .plan_page import write_plan_report
    from .record import Change, LayerRow, Report, ReportError, read_report
    from .sections import render_html, write_report
    from .statistics import mean_interval, most_events, sign_test, verdict, wilson
else:
    __getattr__, __dir__ = lazily(__name__, __file__)

__all__ = [
    "Accuracy",
    "Error",
    "Change",
    "Conclusion",
    "End",
    "FleetReport",
    "FleetRound",
    "LayerRow",
    "PARTIAL",
    "MachineReport",
    "Method",
    "Metrics",
    "NAMES",
    "Report",
    "ReportError",
    "State",
    "Update",
    "auc",
    "comparison",
    "conclude",
    "differences",
    "follow",
    "make_report",
    "mean_interval",
    "mean_of",
    "most_events",
    "partial_auc",
    "read_metrics",
    "read_report",
    "render_html",
    "roc",
    "sign_test",
    "verdict",
    "wilson",
    "worst_tenth",
    "write_comparison",
    "write_fleet_page",
    "write_machine_page",
    "write_plan_report",
    "write_report",
]
