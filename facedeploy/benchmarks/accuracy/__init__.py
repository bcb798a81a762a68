"""How good what a pipeline finds is, against labels. One file per metric; NumPy only, and no data set is known here."""
