"""How good what a pipeline finds is, against labels. Start at `evaluate.evaluate`.

From the inside out: a data set is measured by tasks (`tasks`, `pose_and_landmarks`, `torch_parity`), whose measures
become values with intervals (`scores`). Labels come from `datasets` and its readers. Faces come from
`evaluated_pipeline`, in this process, in several (`workers`) or over a cluster (`cluster`), and `answer_cache` keeps
them. The measures themselves are `facedeploy.metrics`.
"""

__all__ = ["datasets", "evaluate", "evaluated_pipeline", "scores", "tasks"]
