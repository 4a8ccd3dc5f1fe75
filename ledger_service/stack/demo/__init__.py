"""The demo: a quarter of bank traffic through every room, judged by what was planted.

It is a client like any other: it runs `tally` commands, calls the API and the console over HTTP and
reads published snapshots. Nothing in the product knows that there is a demo.
"""
