package s3test_test

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/akidb/akidb/segments/blob/s3test"
)

// TestStart starts two servers, which must not be in each other's way. Whether
// they speak S3 is for the tests that use them.
func TestStart(t *testing.T) {
	a, b := s3test.Start(t), s3test.Start(t)
	if a.URL == b.URL || a.Dir == b.Dir {
		t.Errorf("got %+v twice", a)
	}
	for _, e := range []s3test.Endpoint{a, b} {
		response, err := http.Get(e.URL + "/" + e.Bucket) // unsigned
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("an unsigned request got %s, want 403", response.Status)
		}
	}
}

// TestWithoutServer runs TestStart where there is no server: it must fail and
// say what to do, unless it was told to skip.
func TestWithoutServer(t *testing.T) {
	for _, c := range []struct {
		noS3, want string
		fails      bool
	}{
		{"", "run make tools", true},
		{"1", "--- SKIP: TestStart", false},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestStart$", "-test.v")
		cmd.Env = append(os.Environ(), "AKIDB_TEST_VERSITYGW=/nonexistent", "AKIDB_TEST_NO_S3="+c.noS3)
		output, err := cmd.CombinedOutput()
		if (err != nil) != c.fails || !strings.Contains(string(output), c.want) {
			t.Errorf("AKIDB_TEST_NO_S3=%s: got %v, want %q in\n%s", c.noS3, err, c.want, output)
		}
	}
}
