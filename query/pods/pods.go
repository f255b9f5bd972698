// Package pods knows the query processes that share a store, and which of them
// keeps which segment in memory.
//
//	ring     a segment's two owners, by rendezvous hash over the ready pods
//	members  who is ready, found out by asking
//
// There is no consensus and none is needed: every pod can answer everything from
// the store, so two pods that disagree for a moment about who is there cost each
// other cache hits and nothing else.
package pods

// Protocol numbers what pods say to each other. Pods that speak another one are
// not sent anything, so that versions can be mixed while they are replaced.
const Protocol = 1

// State is where a pod is in its life.
type State string

// The states, in order. Only Ready pods own segments.
const (
	Starting State = "starting" // loads its share
	Ready    State = "ready"
	Draining State = "draining" // finishes what it has begun
)

// Info is what a pod says of itself.
type Info struct {
	// ID is of one run of a process: a pod that finds its own among its peers
	// has found itself.
	ID string `json:"id"`
	// Name is what ownership is hashed over. One that outlives restarts lets a
	// pod come back to the segments its disk may still have.
	Name     string `json:"name"`
	State    State  `json:"state"`
	Version  string `json:"version"` // of the program
	Protocol int    `json:"protocol"`
}
