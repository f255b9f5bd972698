// Package httpapi is the plumbing of the REST port: routing, the middleware
// every request passes, bodies, strict JSON, limits and the one error shape.
// It knows nothing of collections; the query and writer packages register
// their handlers on a [Router] and cmd serves it with a [Server].
//
// Promises:
//
//   - Every response, including those fasthttp would have written itself,
//     carries X-Request-Id, and every error has the documented JSON shape. A
//     client's fault is never a 500; a 429 or 503 always carries Retry-After.
//   - A request that was received is answered: [Server.Run] drains before it
//     returns, and the context of [Context] is not cancelled by draining.
//   - Bodies are bounded before and after decompression, and JSON is refused
//     when it says something the handler would not look at: unknown and
//     repeated names, trailing bytes, numbers that do not fit.
//
// Handlers return an error instead of writing one. An [*Error] is sent as it
// stands; anything else is logged and answered as 500 `internal`.
package httpapi
