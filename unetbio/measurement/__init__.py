"""What the tables say of cells and frames."""
