"""What is left of a personalization run: `metrics.jsonl` while it goes on, then `report.json` and `report.html`."""

from ..energy import EnergyRow
from .metrics import Metrics, read_metrics
from .plan_page import write_plan_report
from .record import LayerRow, Report, ReportError, read_report
from .sections import render_html, write_report

__all__ = [
    "EnergyRow",
    "LayerRow",
    "Metrics",
    "Report",
    "ReportError",
    "read_metrics",
    "read_report",
    "render_html",
    "write_plan_report",
    "write_report",
]
