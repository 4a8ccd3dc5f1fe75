"""The tables of schema `monitoring`, step by step."""
