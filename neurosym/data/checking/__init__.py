"""Is a data set fit to be trained and scored on? Splits as they stand in their files → faults, each with its place.

Loaders stop at the first bad file; here nothing stops, so that all faults of a data set are seen at once, with the class
balance and pictures of what is most unlike the rest.
"""
