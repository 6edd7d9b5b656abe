"""The output folder: names, journal, reuse of earlier results, tables, verification."""
