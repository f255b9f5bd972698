package chaos

import (
	"fmt"
	"os"
	"testing"
)

// akidb is the program under test, built once.
var akidb Program

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "akidb-chaos-")
	if err == nil {
		defer os.RemoveAll(dir)
		akidb, err = Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
