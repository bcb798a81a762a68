"""One reader per kind of data set: from files, as their publisher gives them, to labelled pictures."""
