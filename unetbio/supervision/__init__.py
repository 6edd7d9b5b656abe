"""From label images to what a network is trained on: weight maps, class weights, losses, thresholds."""
