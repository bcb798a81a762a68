"""Models x targets x sizes, each exported, verified and measured, in one report. What is done is never done again."""
