// Package writer is fine.
package writer
