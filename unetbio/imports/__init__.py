"""Import annotations of other programs as label images, into a new folder or into the output folder of a run."""
