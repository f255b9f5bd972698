// Package kernels is computing.
package kernels

import "C"
