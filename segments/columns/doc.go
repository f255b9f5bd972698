// Package columns is everything about rows as columns: the data.parquet file of
// a segment, Parquet files that users bring, and filters over metadata.
//
// What it promises:
//
//   - data.parquet is a plain Parquet file. DuckDB, pyarrow, Polars and Spark
//     read it as it is: id STRING, vector LIST<FLOAT>, metadata STRING (one JSON
//     object or null), seq UINT64. FORMAT.md says what lies where.
//   - A row is named by its ordinal, its 0-based position in the file. The
//     float32 values of one vector are one byte range of the file, found by
//     arithmetic ([File.VectorRange]), so a reader fetches 4 x dimension bytes.
//   - The places of all pages fit into a few bits a page ([File.AppendLayout]).
//     Who keeps them reads rows in one round ([FromLayout]).
//   - Files are not trusted. Every length is checked before anything is
//     allocated, every page's CRC before its bytes are used; damage is an error
//     that names the column and the byte offset, never a panic.
//   - Metadata passes [ValidateMetadata] once, on the way in, and is kept to the
//     letter from then on. [Filter] evaluates on those bytes without decoding
//     them into maps.
//
// Readers do as few ReadAt calls as they can and never a small one per value;
// block caching and checksums of blocks belong to the io.ReaderAt they are given.
package columns
