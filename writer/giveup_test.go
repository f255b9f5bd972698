package writer

import (
	"context"
	"testing"

	"github.com/akidb/akidb/internal/httpapi"
)

// TestACallerWhoGivesUpKnowsNothing: what is still done for a caller that waits no
// longer was not refused.
func TestACallerWhoGivesUpKnowsNothing(t *testing.T) {
	v := newWorld(t, neverByItself)
	v.open()
	c := v.create("c", 2, "l2")
	gone, giveUp := context.WithCancel(context.Background())
	giveUp()
	release := make(chan struct{})
	defer close(release)
	begun := make(chan struct{})
	first := request{key: "k", keyName: "key"}
	go func() {
		_, _ = c.once(context.Background(), first, func() (answer, error) {
			close(begun)
			<-release
			return answer{}, nil
		})
	}()
	<-begun
	for name, wait := range map[string]func() error{
		"work in the background": func() error {
			_, err := detached(gone, v.w, func(context.Context) (int, error) { <-release; return 0, nil })
			return err
		},
		"the first request with the key": func() error {
			_, err := c.once(gone, first, func() (answer, error) { panic("BUG: the second request was carried out") })
			return err
		},
		"the log": func() error {
			b := newBatch(v.w.cfg.Limits, c.meta)
			if err := b.add("", rowBody{ID: "a", Vector: []float32{1, 2}}); err != nil {
				return err
			}
			_, err := c.upsert(gone, b, request{})
			return err
		},
	} {
		err := wait()
		if err == nil {
			continue // the log was quicker
		}
		if e := asWriteError(err); e.Applied != httpapi.UnknownApplied {
			t.Errorf("%s: applied %q: %v", name, e.Applied, err)
		}
	}
}
