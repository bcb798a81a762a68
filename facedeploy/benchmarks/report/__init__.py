"""The report of a benchmark: JSON for tools, Markdown for pull requests, a page for people."""

from facedeploy.benchmarks.report.folder import Report, check_report_folder, write_report

__all__ = ["Report", "check_report_folder", "write_report"]
