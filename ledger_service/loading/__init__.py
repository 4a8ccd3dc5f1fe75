"""Outside transactions by mapping: any CSV or Parquet of transfers into a ledger, over the API."""
