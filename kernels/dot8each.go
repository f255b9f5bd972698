package kernels

import "fmt"

// Dot8Each is Dot8Rows for rows anywhere in memory: rows[i] is the first of len(query) bytes, which
// is the caller's promise and cannot be checked here.
func Dot8Each(query []int8, rows []*byte, out []int32) {
	checkDot8("Dot8Each", len(query), len(query))
	if len(rows) != len(out) {
		panic(fmt.Sprintf("BUG: kernels.Dot8Each: %d rows, %d results", len(rows), len(out)))
	}
	if len(rows) > 0 {
		dot8Each(query, rows, out)
	}
}
