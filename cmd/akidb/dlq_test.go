package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/internal/client/clienttest"
)

func TestDLQ(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.EscapedPath())
		switch {
		case r.URL.Path == "/api/v1/admin/dlq":
			_, _ = w.Write([]byte(`{"entries":[{"id":"01A","kind":"flush","collection":"films","collection_id":"01F","first_seq":3,"last_seq":9,"bytes":2048,
				"attempts":7,"first_failed_at":"2026-01-02T03:04:05Z","last_attempt_at":"2026-01-02T03:05:05Z","last_error":"store\nunavailable"}]}`))
		case r.URL.Path == "/api/v1/admin/dlq/no%/retry":
			clienttest.Fail(w, 404, "dead_letter_not_found", "", "there is no such dead letter")
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			_, _ = w.Write([]byte(`{"retried":3}`))
		}
	}))
	defer server.Close()
	s := &clienttest.Server{URL: server.URL}
	code, stdout, stderr := against(t, s, "dlq", "list")
	require.Zero(t, code, stderr)
	require.Equal(t, "ID   KIND   COLLECTION  SEQS  SIZE     ATTEMPTS  SINCE                 LAST ERROR\n"+
		"01A  flush  films       3-9   2.0 KiB  7         2026-01-02T03:04:05Z  store"+`·`+"unavailable\n", stdout)
	code, stdout, stderr = against(t, s, "dlq", "list", "-o", "json")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, `"first_failed_at": "2026-01-02T03:04:05Z"`)
	code, stdout, _ = against(t, s, "dlq", "retry-all")
	require.Zero(t, code)
	require.Equal(t, "3 told to try again\n", stdout)
	code, stdout, _ = against(t, s, "dlq", "retry", "01A")
	require.Zero(t, code)
	require.Equal(t, "1 told to try again\n", stdout)
	code, stdout, _ = against(t, s, "dlq", "delete", "01A")
	require.Zero(t, code)
	require.Equal(t, "01A forgotten\n", stdout)
	code, _, stderr = against(t, s, "dlq", "retry", "no%")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "dead_letter_not_found")
	code, _, _ = against(t, s, "dlq", "retry")
	require.Equal(t, exitUsage, code)
	code, _, _ = against(t, s, "dlq", "list", "-o", "xml")
	require.Equal(t, exitUsage, code)
	require.Equal(t, []string{
		"GET /api/v1/admin/dlq", "GET /api/v1/admin/dlq", "POST /api/v1/admin/dlq/retry-all", "POST /api/v1/admin/dlq/01A/retry",
		"DELETE /api/v1/admin/dlq/01A", "POST /api/v1/admin/dlq/no%25/retry",
	}, asked)
}
