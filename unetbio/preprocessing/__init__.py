"""From the grey values of a file to the input of a network: scale and normalization."""
