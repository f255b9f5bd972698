// Package api is the public contract: the OpenAPI document of the REST port.
// The document is the reference users read; tests hold it against what is
// served, in both directions.
package api

import _ "embed"

// OpenAPI is openapi.yaml, an OpenAPI 3.1 document.
//
//go:embed openapi.yaml
var OpenAPI []byte
