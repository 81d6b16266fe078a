"""Pages of docs/ that are made from the code: ``make docs`` writes them, a test holds them true.

What a thing is for stands in the pages themselves, in the last column of a table, and is kept; names, types, bounds and
defaults come from the code. So a new key or field appears with an empty cell, and the test asks for its words.
"""
