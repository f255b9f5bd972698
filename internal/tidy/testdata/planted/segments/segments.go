// Package segments looks up.
package segments
import _ "example.com/planted/query"
