"""Prints, as JSON, what DuckDB and pyarrow find in Parquet files.

read_segments.py FILE...
"""
import json
import sys

import duckdb
import pyarrow.parquet as pq

files = sys.argv[1:]
table = duckdb.sql(f"SELECT id, vector, metadata FROM read_parquet({files!r})")
columns = [duckdb.sql(f"SELECT typeof({c}) FROM read_parquet({files!r}) LIMIT 1").fetchall()[0][0] for c in ("id", "vector")]
found = duckdb.sql(f"""SELECT id FROM read_parquet({files!r})
    WHERE json_extract(metadata, '$.number')::INT % 100 = 42 ORDER BY id""").fetchall()
arrow = pq.ParquetDataset(files).read(columns=["id", "vector", "metadata"])
json.dump(
    {
        "duckdb_types": columns,
        "duckdb": [dict(zip(("id", "vector", "metadata"), row)) for row in table.fetchall()],
        "filtered": [row[0] for row in found],
        "arrow_types": [str(arrow.schema.field(c).type) for c in ("id", "vector")],
        "arrow": arrow.to_pylist(),
    },
    sys.stdout,
)
