"""What hospitals and annotation tools have → COCO files and 8-bit PNG films that a run reads.

Each format is a module with one function from a folder to a `Source`: the films to import, which are read one at a time. Then
`write.import_films` reads, draws, splits and writes them, the same for all formats.
"""
