"""Writes Parquet files of several makes into a folder, each with a .json beside
it: the rows that an import must yield, as [id, vector, metadata]."""
import datetime as dt
import decimal
import json
import os
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

folder = sys.argv[1]


def save(name, table, rows, **options):
    pq.write_table(table, os.path.join(folder, name + ".parquet"), **options)
    expect(name, rows)


def expect(name, rows):
    with open(os.path.join(folder, name + ".json"), "w") as f:
        json.dump(rows, f)


vectors = [[0.5, -1.0, 2.25], [1.0, 0.0, -0.125], [3.0, 4.0, 5.0]]
plain = [["a", vectors[0], None], ["b", vectors[1], None], ["c", vectors[2], None]]
ids = pa.array(["a", "b", "c"])


def lists(kind):
    return pa.array(vectors, pa.list_(kind))


for codec in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]:
    save("codec_" + codec, pa.table({"id": ids, "vector": lists(pa.float32())}), plain, compression=codec)
for version in ["1.0", "2.0"]:
    save("page_v" + version[0], pa.table({"id": ids, "vector": lists(pa.float32())}), plain,
         data_page_version=version, use_dictionary=False)
save("double", pa.table({"_id": ids, "embedding": lists(pa.float64())}), plain)
save("half", pa.table({"id": ids, "emb": pa.array([np.array(v, np.float16) for v in vectors], pa.list_(pa.float16()))}), plain)
save("large_list", pa.table({"id": ids, "vector": pa.array(vectors, pa.large_list(pa.float32()))}), plain)
save("fixed_list", pa.table({"id": ids, "vector": pa.array(vectors, pa.list_(pa.float32(), 3))}), plain)
save("byte_array", pa.table({"id": ids, "vector": pa.array([np.array(v, "<f4").tobytes() for v in vectors], pa.binary(12))}), plain)
save("integer_id", pa.table({"id": pa.array([1, 2, -3]), "vector": lists(pa.float32())}),
     [["1", vectors[0], None], ["2", vectors[1], None], ["-3", vectors[2], None]])
save("unsigned_id", pa.table({"id": pa.array([1, 2, 2**64 - 1], pa.uint64()), "vector": lists(pa.float32())}),
     [["1", vectors[0], None], ["2", vectors[1], None], [str(2**64 - 1), vectors[2], None]])
save("metadata_column", pa.table({"id": ids, "vector": lists(pa.float32()), "extra": ids,
                                  "metadata": pa.array(['{"x": 1}', None, ' {"y":[1,2]} '])}),
     [["a", vectors[0], {"x": 1}], ["b", vectors[1], None], ["c", vectors[2], {"y": [1, 2]}]])
save("metadata_struct", pa.table({"id": ids, "vector": lists(pa.float32()),
                                  "metadata": pa.array([{"x": 1, "y": None}, None, {"x": None, "y": "é"}])}),
     [["a", vectors[0], {"x": 1, "y": None}], ["b", vectors[1], None], ["c", vectors[2], {"x": None, "y": "é"}]])

zone = dt.timezone.utc
rest = {
    "bool": pa.array([True, None, False]),
    "i8": pa.array([-1, None, 127], pa.int8()),
    "u32": pa.array([2**32 - 1, None, 0], pa.uint32()),
    "i64": pa.array([2**63 - 1, None, -(2**63)], pa.int64()),
    "u64": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "f32": pa.array([0.1, None, float("nan")], pa.float32()),
    "f64": pa.array([0.1, None, 1e300], pa.float64()),
    "text": pa.array(['quote " é', None, ""]),
    "bytes": pa.array([b"\x00\xff", None, b""]),
    "date": pa.array([dt.date(2024, 2, 29), None, dt.date(1969, 12, 31)]),
    "ms": pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 6000, zone), None, dt.datetime(1969, 12, 31, 23, 59, 59, 0, zone)], pa.timestamp("ms", "UTC")),
    "us": pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 7, zone), None, dt.datetime(1970, 1, 1, tzinfo=zone)], pa.timestamp("us", "UTC")),
    "time": pa.array([dt.time(3, 4, 5, 600), None, dt.time(0)], pa.time64("us")),
    "decimal": pa.array([decimal.Decimal("12.34"), None, decimal.Decimal("-0.05")], pa.decimal128(9, 2)),
    "list": pa.array([[1, None, 3], None, []], pa.list_(pa.int32())),
    "lists": pa.array([[[1], [], None, [2, 3]], None, [[]]], pa.list_(pa.list_(pa.int32()))),
    "struct": pa.array([{"p": 1, "q": ["x", "y"]}, None, {"p": None, "q": None}]),
    "structs": pa.array([[{"p": 1, "q": "x"}, {"p": 2, "q": None}], None, []], pa.list_(pa.struct([("p", pa.int64()), ("q", pa.string())]))),
    "map": pa.array([[("k", 1), ("l", None)], None, []], pa.map_(pa.string(), pa.int32())),
}
expected = [
    {"bool": True, "i8": -1, "u32": 2**32 - 1, "i64": 2**63 - 1, "u64": 2**64 - 1, "f32": 0.1, "f64": 0.1, "text": 'quote " é',
     "bytes": "AP8=", "date": "2024-02-29", "ms": "2024-01-02T03:04:05.006Z", "us": "2024-01-02T03:04:05.000007Z", "time": "03:04:05.0006",
     "decimal": 12.34, "list": [1, None, 3], "lists": [[1], [], None, [2, 3]], "struct": {"p": 1, "q": ["x", "y"]},
     "structs": [{"p": 1, "q": "x"}, {"p": 2, "q": None}], "map": {"k": 1, "l": None}},
    None,
    {"bool": False, "i8": 127, "u32": 0, "i64": -(2**63), "u64": 0, "f32": None, "f64": 1e300, "text": "",
     "bytes": "", "date": "1969-12-31", "ms": "1969-12-31T23:59:59Z", "us": "1970-01-01T00:00:00Z", "time": "00:00:00",
     "decimal": -0.05, "list": [], "lists": [[]], "struct": {"p": None, "q": None}, "structs": [], "map": {}},
]
save("every_type", pa.table({"id": ids, "vector": lists(pa.float32()), **rest}),
     [[i, v, m] for i, v, m in zip("abc", vectors, expected)])
save("int96", pa.table({"id": ids, "vector": lists(pa.float32()), "at": rest["us"]}),
     [["a", vectors[0], {"at": "2024-01-02T03:04:05.000007Z"}], ["b", vectors[1], None], ["c", vectors[2], {"at": "1970-01-01T00:00:00Z"}]],
     use_deprecated_int96_timestamps=True)

many = 3000
big = pa.table({"id": [f"row-{i}" for i in range(many)], "vector": pa.array([[i, i / 2] for i in range(many)], pa.list_(pa.float32())),
                "word": [f"w{i % 7}" if i % 3 else None for i in range(many)]})
big_rows = [[f"row-{i}", [i, i / 2], {"word": f"w{i % 7}"} if i % 3 else None] for i in range(many)]
save("row_groups", big, big_rows, row_group_size=700, data_page_size=1000)
pq.write_table(big, os.path.join(folder, "tmp.parquet"))
duckdb.sql(f"""copy (select id, vector::float[2] as vector, word from read_parquet('{folder}/tmp.parquet'))
               to '{folder}/duckdb.parquet' (format parquet, row_group_size 2048)""")
os.remove(os.path.join(folder, "tmp.parquet"))
expect("duckdb", big_rows)
