"""One reader per kind of data set: from files, as their publisher gives them, to labelled pictures."""

__all__ = ["aflw2000", "boxes_csv", "coco", "pytorch", "widerface"]
