// Package ivfpq is the approximate index of a segment: train, encode, calibrate, probe, scan,
// refine. It is pure compute, slices in and slices out; reading and writing them is the caller's.
//
// The vectors of a segment are scaled, rotated by a seeded orthogonal transform and sorted into
// lists around centroids. Every row has two codes:
//
//   - the scan code, a product quantiser whose codebook is the corners of a hypercube: one bit a
//     dimension, four dimensions a sub-quantizer, and two factors that turn the inner product of
//     the signs with the query into an unbiased estimate of the distance (RaBitQ: Gao, Long
//     2024). One look-up table per query serves all lists.
//   - the refine code, an int8 for every dimension with a scale of its own and the exact norm.
//
// A search asks a Router for a Query, takes the nearest lists from Probe, estimates their rows
// into Candidates with ScanList, sharpens the best with RefineList, and scores the Finish best
// with Distances on the float32 vectors. How many lists and candidates a recall takes is
// measured when the index is built, and Plan reads it back.
//
// What is promised:
//   - Build gives the same bytes for the same input and Config, however many CPUs there are.
//   - A row outside the Bitmap is never a candidate.
//   - No finite input makes a distance NaN or infinite, and no bytes make a reader panic.
//   - FORMAT.md describes every byte; a test holds it to the constants here.
package ivfpq
