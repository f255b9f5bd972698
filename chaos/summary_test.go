package chaos

import (
	"errors"
	"os"
	"testing"

	"github.com/go-json-experiment/json"
)

// summary is what a scenario came to: a line of the file that
// AKIDB_CHAOS_REPORT names, which chaos/report shows as a table.
type summary struct {
	Scenario string `json:"scenario"`
	Passed   bool   `json:"passed"`

	// Writes.
	Acknowledged int `json:"acknowledged"`
	Unknown      int `json:"unknown"` // may or may not have been applied
	Refused      int `json:"refused"` // for want of the service; wrong requests are not counted

	// Rows that an audit found wrong.
	Lost        int `json:"lost"`
	Resurrected int `json:"resurrected"`
	Duplicated  int `json:"duplicated"`
	Invented    int `json:"invented"`
	Torn        int `json:"torn"`

	Faults  map[string]int `json:"faults"`  // that were injected, by kind
	Tallies map[string]int `json:"tallies"` // what else clients counted

	// The longest that was measured; 0 if nothing was.
	RecoverySeconds    float64 `json:"recovery_seconds"`     // from the end of a fault to everything working
	BreakerOpenSeconds float64 `json:"breaker_open_seconds"` // from a fault to an open breaker
	DLQDrainedSeconds  float64 `json:"dlq_drained_seconds"`  // from the end of a fault to no dead letters
}

func (o *summary) fault(c Class) {
	*map[Class]*int{Lost: &o.Lost, Resurrected: &o.Resurrected, Duplicated: &o.Duplicated, Invented: &o.Invented, Torn: &o.Torn}[c]++
}

// write shows the summary, and appends it to the report if there is to be one.
func (o *summary) write(t testing.TB) {
	line, err := json.Marshal(o, json.Deterministic(true))
	if err != nil {
		t.Error(err)
		return
	}
	t.Logf("%s", line)
	name := os.Getenv("AKIDB_CHAOS_REPORT")
	if name == "" {
		return
	}
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = file.Write(append(line, '\n')) // one write, so lines of several tests do not mix
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Error(err)
	}
}
