package bloburl_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/bloburl"
	"github.com/akidb/akidb/segments/blob/s3blob"
	"github.com/akidb/akidb/segments/blob/s3test"
)

// roundTrip writes through one opening of url and reads through another.
func roundTrip(t *testing.T, url string, s3 s3blob.Config, shared bool) {
	t.Helper()
	s := mustOpen(t, url, s3)
	if _, err := s.Put(t.Context(), "a/b", strings.NewReader("x"), 1, blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	_, err := mustOpen(t, url, s3).Stat(t.Context(), "a/b")
	if (err == nil) != shared {
		t.Errorf("%s: a second opening sees %v", url, err)
	}
}

func mustOpen(t *testing.T, url string, s3 s3blob.Config) bloburl.Store {
	t.Helper()
	s, err := bloburl.Open(t.Context(), url, s3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestFileAndMem(t *testing.T) {
	dir := t.TempDir()
	roundTrip(t, "file://"+dir+"/with%20space/store", s3blob.Config{}, true)
	if found, err := filepath.Glob(filepath.Join(dir, "with space/store/a/b")); err != nil || len(found) != 1 {
		t.Errorf("found %q, %v", found, err)
	}
	roundTrip(t, "mem://", s3blob.Config{}, false)
}

func TestS3(t *testing.T) {
	e := s3test.Start(t)
	e.Setenv(t)
	c := s3blob.Config{Endpoint: e.URL, PathStyle: true}
	for _, path := range []string{"", "/", "/one", "/one/two/"} {
		roundTrip(t, "s3://"+e.Bucket+path, c, true)
	}
	for _, key := range []string{"a/b", "one/a/b", "one/two/a/b"} {
		if _, err := mustOpen(t, "s3://"+e.Bucket, c).Stat(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
}

func TestRefused(t *testing.T) {
	for url, want := range map[string]string{
		"":                        "scheme",
		"/some/dir":               "scheme",
		"ftp://host/dir":          "scheme",
		"file://relative/dir":     "absolute",
		"file:relative":           "host and a path",
		"file://":                 "absolute",
		"s3://":                   "bucket",
		"s3://bucket?region=x":    "host and a path",
		"s3://key:secret@bucket/": "host and a path",
		"s3://bucket/a//b":        "prefix",
		"mem://x":                 "nothing after",
		"s3://%zz":                "parse",
	} {
		s, err := bloburl.Open(t.Context(), url, s3blob.Config{})
		if err == nil || s != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v; want an error about %q", url, s, err, want)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells the secret: %v", url, err)
		}
	}
}

// What is opened for reading only sees what there is, and refuses the rest.
func TestReadOnly(t *testing.T) {
	e := s3test.Start(t)
	e.Setenv(t)
	c := s3blob.Config{Endpoint: e.URL, PathStyle: true}
	for _, url := range []string{"file://" + t.TempDir(), "s3://" + e.Bucket + "/ro"} {
		live := mustOpen(t, url, c)
		if _, err := live.Put(t.Context(), "a/b", strings.NewReader("x"), 1, blob.Condition{}); err != nil {
			t.Fatal(err)
		}
		s, err := bloburl.OpenReadOnly(t.Context(), url, c)
		if err != nil {
			t.Fatal(err)
		}
		if b, _, err := s.Get(t.Context(), "a/b"); err != nil || string(b) != "x" {
			t.Errorf("%s: got %q, %v", url, b, err)
		}
		if _, err := s.Put(t.Context(), "c", strings.NewReader("x"), 1, blob.Condition{}); err == nil {
			t.Errorf("%s: put", url)
		}
		if err := s.Delete(t.Context(), "a/b"); err == nil {
			t.Errorf("%s: deleted", url)
		}
		if page, err := live.List(t.Context(), blob.Listing{}); err != nil || len(page.Objects) != 1 {
			t.Errorf("%s: got %+v, %v", url, page, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := bloburl.OpenReadOnly(t.Context(), "file://"+missing, c); err == nil {
		t.Error("a store that is not there was opened")
	}
}
