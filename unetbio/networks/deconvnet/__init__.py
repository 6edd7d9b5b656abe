"""DeconvNet."""
