"""Plugin of napari: segment with unetbio, look at its results and correct them.

``runs`` and ``parts`` know neither napari nor Qt; ``work`` runs a function beside the window; ``layers`` makes layers;
``segmenting`` and ``reviewing`` are the two widgets, ``reading`` the reader.
"""
