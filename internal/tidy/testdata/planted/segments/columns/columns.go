// Package columns knows too much.
package columns

import _ "example.com/planted/segments/blob"

// Width is a number that a
// helper measured.
const Width = 1

/*
Height was found in the sandbox.
*/
const Height = 2
