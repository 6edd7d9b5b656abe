"""From decided pixels to label images: instances, links between sections, objects, CRF."""
