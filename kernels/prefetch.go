package kernels

// Prefetch asks for memory that will be read soon, so that it is at hand by then: every line that b
// touches. It changes nothing else, and does nothing where there is no assembly.
func Prefetch(b []byte) {
	if len(b) > 0 && level != Generic {
		prefetch(&b[0], len(b))
	}
}
