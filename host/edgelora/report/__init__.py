"""What is left of a run: records, figures, pages."""

from .metrics import Metrics, read_metrics
from .of_run import make_report
from .plan_page import write_plan_report
from .record import LayerRow, Report, ReportError, read_report
from .sections import render_html, write_report

__all__ = [
    "LayerRow",
    "Metrics",
    "Report",
    "ReportError",
    "make_report",
    "read_metrics",
    "read_report",
    "render_html",
    "write_plan_report",
    "write_report",
]
