"""What a detector's head means, put into its graph: boxes, scores and landmarks in pixels of the input."""

__all__ = ["attach", "build", "description", "priors", "rows"]
