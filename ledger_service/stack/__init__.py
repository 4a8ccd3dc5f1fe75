"""The local stack: which parts there are, in which order they start, who watches.

It knows the other rooms by their commands and service names only.
"""
