"""Cells for other programs: QuPath's GeoJSON, ImageJ's regions, COCO, AnnData."""
