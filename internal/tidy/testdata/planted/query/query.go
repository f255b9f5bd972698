// Package query reaches for everything.
package query

import (
	_ "example.com/planted/writer"
	_ "example.org/unknown/module"
	_ "github.com/aws/aws-sdk-go-v2/config"
	_ "github.com/dgraph-io/ristretto/v2/z"
	_ "pgregory.net/rapid"
)
