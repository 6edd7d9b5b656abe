"""Multi-scale context aggregation by dilated convolutions."""
