package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report")
	require.NoError(t, os.WriteFile(file, []byte(`{"scenario":"TestA/b","passed":true,"acknowledged":12,"recovery_seconds":1.25,"faults":{"kills":2,"cuts":1,"none":0}}
{"scenario":"TestC","lost":3,"tallies":{"reads":1}}
`), 0o600))
	var out strings.Builder
	require.NoError(t, run([]string{file}, &out))
	lines := strings.Split(out.String(), "\n")
	require.Len(t, lines, 4)
	require.Equal(t, []string{"A/b", "ok", "12", "0", "0", "0", "0", "0", "0", "0", "1.2", "s", "-", "-", "1", "cuts,", "2", "kills"}, strings.Fields(lines[1]))
	require.Equal(t, []string{"C", "FAILED", "0", "0", "0", "3", "0", "0", "0", "0", "-", "-", "-"}, strings.Fields(lines[2]))

	require.Error(t, run(nil, &out))
	require.Error(t, run([]string{file + "x"}, &out))
	require.ErrorContains(t, show(strings.NewReader("{\n"), &out), `"{"`)
}
