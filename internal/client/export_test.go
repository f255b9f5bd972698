package client

// Body is the request body a batch makes.
func Body(b *Batch) []byte { return b.json() }
