"""Full-resolution FCN."""
