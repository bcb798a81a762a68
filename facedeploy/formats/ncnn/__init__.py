"""The files of ncnn: the graph (param), the weights (bin), and the table that int8 needs."""

__all__ = ["bin", "calibration_table", "layouts", "param", "shared_weights"]
