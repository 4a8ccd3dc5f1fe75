"""The local stack: which servers and services there are, in which order they start, who watches them.

It knows the other rooms by their commands and service names only.
"""
