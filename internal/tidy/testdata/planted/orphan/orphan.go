// Package orphan is in no table.
package orphan
