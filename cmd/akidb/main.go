// Command akidb is the whole product in one binary: the server roles (dev,
// writer, query) and the tools that work on them. Each command lives in a file
// of its own and does flags → configuration → wiring; the work is in the
// packages it calls.
//
// Exit codes: 0 fine, 1 failed, 2 usage, 3 fenced by another writer,
// 4 unsupported format or version skew, 5 verification failed.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
