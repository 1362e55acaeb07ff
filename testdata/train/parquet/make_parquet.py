"""Documents and conversations as Parquet files by pyarrow: several row groups, compressions and a column beside that is not read.

    python make_parquet.py
"""
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
texts = [f"Document {i} says: the cat sat on mat {i * 7 % 13}.\nÜber {i}." for i in range(40)]
table = pa.table({"id": list(range(40)), "text": texts})
for compression in ["snappy", "zstd", "gzip", "lz4", "none"]:
    pq.write_table(table, HERE / f"documents_{compression}.parquet", compression=compression, row_group_size=16)
turns = lambda i: [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": f"A number, {i}."}]
pq.write_table(pa.table({"messages": [turns(i) for i in range(5)]}), HERE / "conversations.parquet", compression="snappy")
pq.write_table(pa.table({"text": ["one", None, "three"]}), HERE / "null.parquet", compression="snappy")
pq.write_table(pa.table({"body": ["one"], "n": [1]}), HERE / "columns.parquet", compression="snappy")
