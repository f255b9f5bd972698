package pods

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Owners is how many pods keep a segment in memory: one may go, and the other
// has it.
const Owners = 2

// Ring is a set of pods among which segments are divided. It does not change;
// the zero Ring has nobody.
type Ring struct {
	peers []*Peer // nil stands for the pod itself
	names []uint64
}

// newRing divides segments among a pod and its peers.
func newRing(self string, peers []*Peer) *Ring {
	r := &Ring{}
	add := func(name string, p *Peer) {
		r.peers, r.names = append(r.peers, p), append(r.names, xxhash.Sum64String(name))
	}
	add(self, nil)
	for _, p := range peers {
		add(p.Info.Name, p)
	}
	return r
}

// Count is how many pods there are, the pod itself included.
func (r *Ring) Count() int { return len(r.peers) }

// Peers are the others.
func (r *Ring) Peers() []*Peer {
	return slices.DeleteFunc(slices.Clone(r.peers), func(p *Peer) bool { return p == nil })
}

// Owners returns who keeps a segment in memory, the most preferred first: the
// pods of the highest weight under a hash of both (Thaler and Ravishankar, 1998).
// A pod that comes or goes moves only the segments that are or were its own. own
// says that the pod itself is one of them; the result then need not be looked at.
func (r *Ring) Owners(collection, segment string) (owners [Owners]*Peer, own bool) {
	if len(r.peers) <= Owners {
		copy(owners[:], r.peers)
		return owners, true
	}
	key := keyOf(collection, segment)
	var best [Owners]int
	var weights [Owners]uint64
	for i := range best {
		best[i] = -1
	}
	for i, name := range r.names {
		w := weight(name, key)
		for at := range best {
			if best[at] < 0 || w > weights[at] {
				copy(best[at+1:], best[at:])
				copy(weights[at+1:], weights[at:])
				best[at], weights[at] = i, w
				break
			}
		}
	}
	for i, at := range best {
		owners[i] = r.peers[at]
		own = own || owners[i] == nil
	}
	return owners, own
}

// Own reports whether the pod itself keeps a segment in memory.
func (r *Ring) Own(collection, segment string) bool {
	_, own := r.Owners(collection, segment)
	return own
}

// Heirs are the peers that come to own a segment when the pod itself goes, and
// do not own it now.
func (r *Ring) Heirs(collection, segment string) []*Peer {
	before, own := r.Owners(collection, segment)
	if !own || len(r.peers) <= Owners {
		return nil
	}
	after, _ := r.without().Owners(collection, segment)
	var heirs []*Peer
	for _, p := range after {
		if p != nil && !slices.Contains(before[:], p) {
			heirs = append(heirs, p)
		}
	}
	return heirs
}

// without is the ring of the others alone.
func (r *Ring) without() *Ring {
	out := &Ring{}
	for i, p := range r.peers {
		if p != nil {
			out.peers, out.names = append(out.peers, p), append(out.names, r.names[i])
		}
	}
	return out
}

// keyOf hashes a segment's name, which the collection's does not run into.
func keyOf(collection, segment string) uint64 {
	return mix(xxhash.Sum64String(collection)) ^ xxhash.Sum64String(segment)
}

func weight(name, key uint64) uint64 { return mix(mix(name) ^ key) }

// mix is the finalizer of SplitMix64: every bit of x changes half of the result's.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// sortPeers puts peers in an order that does not depend on who answered first.
func sortPeers(peers []*Peer) {
	slices.SortFunc(peers, func(a, b *Peer) int {
		return cmp.Or(cmp.Compare(a.Info.Name, b.Info.Name), cmp.Compare(a.Addr, b.Addr))
	})
}
