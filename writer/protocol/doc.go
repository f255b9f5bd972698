// Package protocol is a model of how a collection is written, small enough to
// be explored whole. It has no code that runs: its tests visit every state that
// two writers, their logs, a store and a collector can get into within given
// bounds, and hold six invariants against each. segments/manifest has the
// protocol in its real form, with a simulation that runs that very code; this
// package is about how the parts of the writer act together.
//
// # The protocol
//
// A collection is what CURRENT says. CURRENT names a manifest: an epoch, the
// log (by its volume) that may commit, the segments, which of their rows are
// deleted, up to which write everything is in them (flushed), what has become
// garbage, and what snapshots pin.
//
//	log ──flush──► object ──commit──► CURRENT ──► objects it names
//	 ▲                                   ▲
//	 └─ truncated up to what was         └─ compaction, snapshots, restores,
//	    read back as committed              claims: commits as well
//
// Commit. CURRENT is replaced by compare-and-swap. The put may be lost, late or
// repeated, and so may its answer. An answer of yes is believed; after anything
// else CURRENT is read. If the attempt is in the chain behind it, it was
// applied. If CURRENT has moved and it is not, it was refused, for ever. If
// CURRENT has not moved, the same bytes are sent again. A process has one
// attempt at a time.
//
// Ownership. A process opens a log, replays it, and claims: a commit that
// raises the epoch. Only the log that CURRENT names may claim; a takeover by
// another log is an operator's decision and loses what only the old log held.
// Whoever reads an epoch or an owner that is not its own stops. A writer
// acknowledges a write once its log has it, so without its volume it cannot;
// and when it last saw itself as the owner before the current tick of its
// clock, it looks again first.
//
// Flush. The memtable goes into a new object. One commit names the object, hides
// the rows that older segments have under the same ids, and moves flushed. What
// a claim finds flushed is dropped from the memtable.
//
// Compaction. One commit replaces its inputs by its output. Rows that were
// hidden in the inputs since they were read are hidden in the output; when none
// is left, the output is garbage at once. When a restore came between, and the
// inputs show rows that were hidden then, compaction is abandoned.
//
// Snapshots. A snapshot pins what CURRENT names. A restore is a new version that
// names the pinned objects again, and takes them off the list of garbage.
//
// Collector. The key of an object carries the epoch of the process that made it,
// and no key is made twice. By a manifest that was CURRENT at any time, these
// and no others may be deleted, at any time after:
//
//   - what it lists as garbage and no snapshot pins: nothing names it again;
//   - what neither it nor a snapshot names and is from an older epoch: whoever
//     made it can no longer commit it;
//   - what a process made itself and gave up before it sent a commit that names
//     it.
//
// Any other object of the manifest's own epoch may be on its way to being
// committed. So nobody deletes it, its own maker included: a commit of which the
// outcome is unknown, or that seems to have lost a race, may have been applied.
//
// # The invariants
//
//	I1  manifests, live or pinned, name only objects that exist
//	I2  an acknowledged write is in live segments, or in the owner's log
//	    above flushed, unless a later one superseded it, a takeover accepted its
//	    loss or a restore undid it
//	I3  no row is visible twice
//	I4  a row that was deleted, superseded or undone is not visible again
//	I5  epochs never decrease: a fenced writer's commit is not applied
//	I6  a writer that was taken over acknowledges nothing after the next tick
//
// Readers need none of their own. One that holds an old version while its
// objects are collected finds them missing and reads CURRENT again; it cannot
// find others in their place.
//
// # The model
//
// Clients write a script of up to four writes to two ids: two inserts, an
// update of the first, a delete of the second. Everything else may happen at any
// time that it can: processes start, crash, lose their volume and go on without;
// attempts arrive before or after their process has died or been fenced; the
// collector deletes what it chose long ago. Exploration is breadth-first, so that
// a violation comes with a shortest history.
//
// What keeps it small, and why nothing is lost by it:
//
//   - There are no messages. An attempt based on what CURRENT is now can arrive
//     at any time; any other, and any second copy, changes nothing when it does.
//     A process that has neither an answer nor news sends again: no step at all.
//   - There are no version numbers, only whether CURRENT has moved since.
//   - Within an epoch nobody but its process moves CURRENT. (The tests see that
//     a refused commit never finds its own epoch.) So a process that is not
//     behind sees exactly CURRENT, and of one that is behind only what it may
//     still do counts: upload, acknowledge, truncate, find out.
//   - Delete vectors are part of the manifest. As objects they are like
//     segments: made by a process of an epoch under a new key, named by a
//     commit, listed as garbage by another. The same goes for quantizers.
//   - Slots of objects and of processes are sorted, and what is known of objects
//     that nothing refers to is forgotten. The tests compare the lengths of
//     shortest histories with and without that.
//
// What it leaves out: sequence numbers are not used again by a log that took
// over, where the real one goes on from flushed; a look at CURRENT and the
// acknowledgement that relies on it are within one tick, so a process that is
// paused between its clock and its answer is as late as the pause; object
// uploads and deletes that arrive late, which only make an orphan again or
// delete what may go; branches; dropping a collection; damage.
//
// # Running it
//
// go test explores small bounds in some ten seconds. AKIDB_SOAK=1 adds larger
// ones: minutes, and up to 4 GiB of memory. Each exploration prints its bounds
// and how many states there are, and fails if it is not exhaustive or finds
// fewer than it used to. Every rule above has a mistake planted against it,
// which must be caught by the invariant that it is against:
//
//	go test -v -run TestMistakes ./writer/protocol
//	AKIDB_SOAK=1 go test -v -timeout 1h -run TestProtocol ./writer/protocol
package protocol
