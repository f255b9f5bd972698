package protocol

import (
	"fmt"
	"strings"
)

type kind uint8

const (
	started kind = iota
	crashed
	detached
	tick
	confirmed
	ackRefused
	acked
	truncated
	flushUploaded
	flushSent
	mergeRead
	mergeUploaded
	mergeSent
	mergeAbandoned
	pinSent
	restoreSent
	unpinSent

	claimApplied
	zombieClaimed
	flushApplied
	mergeApplied
	mergeAppliedRemapped
	mergeAppliedEmpty
	pinApplied
	unpinApplied
	restoreApplied
	looseApplied
	looseClaimApplied
	answered
	foundApplied
	foundAppliedAndFenced
	foundRefused
	claimRepeated
	claimRefused

	chosen
	garbageDeleted
	orphanDeleted
	abandonedDeleted

	// Only with a fault. That no commit is ever rebased says that within an
	// epoch nobody but its process moves CURRENT.
	rebased
	keyCreatedAgain
	ownDeleted
	flushUploadedAgain

	kinds
)

var applied = [...]kind{
	claim: claimApplied, flush: flushApplied, merge: mergeApplied,
	pin: pinApplied, unpin: unpinApplied, restore: restoreApplied,
}

// says is how a trace tells of an event: {w} is the process, {s} a set of writes,
// {e} an epoch.
var says = [kinds]string{
	started:        "{w} starts, replays {s}, sends its claim",
	crashed:        "{w} crashes",
	detached:       "{w} loses its volume",
	tick:           "a tick ends",
	confirmed:      "{w} reads CURRENT: still the owner",
	ackRefused:     "{w} reads CURRENT before it acknowledges: fenced, exits",
	acked:          "{w} logs and acknowledges {s}",
	truncated:      "{w} truncates its log by {s}",
	flushUploaded:  "{w} uploads {s} for a flush",
	flushSent:      "{w} sends the commit of its flush",
	mergeRead:      "{w} reads {s} for a compaction",
	mergeUploaded:  "{w} uploads {s} for a compaction",
	mergeSent:      "{w} sends the commit of its compaction",
	mergeAbandoned: "{w} abandons its compaction",
	pinSent:        "{w} sends the commit of a snapshot",
	restoreSent:    "{w} sends the commit of a restore",
	unpinSent:      "{w} sends the commit that ends the snapshot",

	claimApplied:          "{w}: claim applied",
	zombieClaimed:         "{w}, without its volume: claim applied",
	flushApplied:          "{w}: flush applied",
	mergeApplied:          "{w}: compaction applied",
	mergeAppliedRemapped:  "{w}: compaction applied, with rows deleted meanwhile",
	mergeAppliedEmpty:     "{w}: compaction applied, all rows deleted meanwhile",
	pinApplied:            "{w}: snapshot applied",
	unpinApplied:          "{w}: end of the snapshot applied",
	restoreApplied:        "{w}: restore applied",
	looseApplied:          "the commit of a crashed process of epoch {e} is applied",
	looseClaimApplied:     "the claim of a crashed process is applied as epoch {e}",
	answered:              "{w} is told that it was applied",
	foundApplied:          "{w} reads CURRENT: applied",
	foundAppliedAndFenced: "{w} reads CURRENT: applied and then fenced, exits",
	foundRefused:          "{w} reads CURRENT: refused and fenced, exits",
	claimRepeated:         "{w} reads CURRENT: claim refused, claims the next epoch",
	claimRefused:          "{w} reads CURRENT: another volume owns it, exits",
	rebased:               "{w} reads CURRENT: refused, rebases",

	chosen:           "the collector reads the manifest of epoch {e} and lists",
	garbageDeleted:   "the collector deletes garbage",
	orphanDeleted:    "the collector deletes an orphan of epoch {e}",
	abandonedDeleted: "the collector deletes what a compaction of its epoch, {e}, gave up",

	keyCreatedAgain:    "{w}: a collected version is created again, called applied",
	ownDeleted:         "{w} gives its commit up and deletes its object {s}",
	flushUploadedAgain: "{w} gives its commit up and uploads {s} in another object",
}

// event is one step.
type event struct {
	kind          kind
	epoch, volume uint8
	set           writes
}

func (e event) String() string {
	who := fmt.Sprintf("writer of epoch %d (volume %c)", e.epoch, 'A'+e.volume)
	if e.epoch == 0 {
		who = fmt.Sprintf("new writer (volume %c)", 'A'+e.volume)
	}
	return strings.NewReplacer("{w}", who, "{s}", e.set.String(), "{e}", fmt.Sprint(e.epoch)).Replace(says[e.kind])
}
