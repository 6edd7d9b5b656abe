"""Prepare label images for training: weight maps, class weights, losses, thresholds."""
