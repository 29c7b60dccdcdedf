"""What is left of a run: records, figures, pages."""

from .compare import comparison, differences, write_comparison
from .metrics import End, Metrics, Update, follow, read_metrics
from .of_run import make_report
from .plan_page import write_plan_report
from .record import Change, LayerRow, Report, ReportError, read_report
from .sections import render_html, write_report
from .statistics import mean_interval, sign_test, verdict, wilson

__all__ = [
    "Change",
    "End",
    "LayerRow",
    "Metrics",
    "Report",
    "ReportError",
    "Update",
    "comparison",
    "differences",
    "follow",
    "make_report",
    "mean_interval",
    "read_metrics",
    "read_report",
    "render_html",
    "sign_test",
    "verdict",
    "wilson",
    "write_comparison",
    "write_plan_report",
    "write_report",
]
