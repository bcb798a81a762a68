"""Models x targets x sizes, each exported, verified and measured, in one report. What is done is never done again.

`plan.Plan` says what to measure, and `run.run` measures it.
"""

__all__ = ["plan", "run"]
