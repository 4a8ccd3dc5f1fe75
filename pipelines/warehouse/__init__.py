"""The warehouse: one DuckDB file, one process at a time, dbt on top."""
