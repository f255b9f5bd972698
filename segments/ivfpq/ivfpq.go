// Package ivfpq is the approximate index of a segment: train, encode, calibrate, probe, scan,
// refine. It is pure compute, slices in and slices out; reading and writing them is the caller's.
//
// Vectors are scaled, rotated by a seeded orthogonal transform and sorted into lists around
// centroids. Rotation, centroids and codebook are a Quantizer, which all segments of an epoch of
// the collection share, so that a search looks for its lists once. A row is in the list of its
// nearest centroid and, with its scan code alone, in a second one that meets queries which miss
// the first (SOAR). It has two codes:
//
//   - the scan code, a product quantiser of 4 bits for every 4 dimensions, whose codebook is the
//     corners of a hypercube or learned, with two factors that turn the inner product of what the
//     code stands for and the query into an unbiased estimate of the distance (RaBitQ: Gao, Long
//     2024). One look-up table per query serves all lists of all segments.
//   - the refine code, an int8 for every dimension with a scale of its own and the exact norm.
//
// A search asks a Quantizer for a Query, takes the nearest lists from Probe, estimates their rows
// in every segment into one Candidates with ScanList, lets Finalists sharpen the best, and scores
// those with Distances on the float32 vectors. How many lists and candidates a recall takes is
// measured when the index is built, and Plan reads it back.
//
// What is promised:
//   - Build gives the same bytes for the same input and Config, however many CPUs there are.
//   - A row outside the Bitmap is never a candidate.
//   - No finite input makes a distance NaN or infinite, and no bytes make a reader panic.
//   - FORMAT.md describes every byte; a test holds it to the constants here.
package ivfpq
