"""Prints what DuckDB and pyarrow read out of a data.parquet, as JSON."""
import json
import sys

import duckdb
import pyarrow.parquet as pq

path = sys.argv[1]
relation = duckdb.sql(f"select * from '{path}'")
rows = [list(row) for row in relation.fetchall()]
table = pq.read_table(path)
json.dump({
    "duckdb_types": [str(t) for t in relation.types],
    "duckdb_rows": rows,
    "duckdb_found": duckdb.sql(f"select seq from '{path}' where id = 'row-7' and metadata like '%word%'").fetchall(),
    "duckdb_json": duckdb.sql(f"select count(*) from '{path}' where metadata->>'n' = '4'").fetchall()[0][0],
    "arrow_types": [str(f.type) for f in table.schema],
    "arrow_rows": [list(row.values()) for row in table.to_pylist()],
}, sys.stdout)
