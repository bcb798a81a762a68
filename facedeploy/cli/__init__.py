"""The command line: one file per command, and no logic. Start at `app.main`."""

__all__ = ["app"]
