"""How good what a pipeline finds is, against labels.

From the inside out: a metric of one picture (average_precision, widerface_ap, landmarks, pose) → what it leaves of each
picture (statistic) → what a data set is measured by (tasks, portraits, torch_parity) → values and intervals (scores,
bootstrap). Beside that, where labels come from (datasets, readers) and where answers come from (detector, workers,
cluster, store). `evaluate` puts them together.
"""
