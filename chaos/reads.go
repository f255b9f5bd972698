package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Put is a write of one version of a row, or its deletion. A row has one client
// that writes it, one version after the other, until what became of one is not
// known: then the row is left alone.
type Put struct {
	Key     string
	Version int
	Deleted bool
	Seq     uint64 // of the token it was acknowledged with; 0: its fate is unknown
	Began   time.Duration
	Ended   time.Duration
}

// Look is a read of one row by one client, that was answered.
type Look struct {
	Client  int
	Key     string
	Asked   uint64 // sequence number of the token that went with it; 0 without
	Served  string // the consistency that the answer says
	Seq     uint64 // of the token that the answer says
	Version int    // 0: there is no such row
	Began   time.Duration
	Ended   time.Duration
}

// CheckReads returns what is wrong with reads, whichever processes answered them:
//
//   - The state that an answer names by its token has every write up to it, and
//     none after: a row is what the last of them made it, not older, not newer,
//     and not back from the dead.
//   - A read with a token names no older state than that.
//   - A read served as latest or strong names a state with every write that was
//     acknowledged before it began, and none older than what another such read
//     named that had ended before it began.
func CheckReads(puts []Put, looks []Look) (problems []string) {
	fault := func(l Look, format string, args ...any) {
		problems = append(problems, fmt.Sprintf("client %d read %q at %v as %s, of state %d: ", l.Client, l.Key, l.Began, l.Served, l.Seq)+fmt.Sprintf(format, args...))
	}
	acked, unknown := map[string][]Put{}, map[string]Put{}
	for _, p := range puts {
		if p.Seq == 0 {
			unknown[p.Key] = p
		} else {
			acked[p.Key] = append(acked[p.Key], p)
		}
	}
	for _, of := range acked {
		slices.SortFunc(of, func(a, b Put) int { return cmp.Compare(a.Seq, b.Seq) })
		for i := 1; i < len(of); i++ {
			if of[i-1].Version >= of[i].Version {
				problems = append(problems, fmt.Sprintf("version %d of %q was acknowledged as write %d, and version %d as write %d", of[i-1].Version, of[i].Key, of[i-1].Seq, of[i].Version, of[i].Seq))
			}
		}
	}
	for _, l := range looks {
		want := 0
		for _, p := range acked[l.Key] {
			if p.Seq > l.Seq {
				break
			}
			if want = p.Version; p.Deleted {
				want = 0
			}
		}
		last, left := unknown[l.Key]
		leftAs := last.Version
		if last.Deleted {
			leftAs = 0
		}
		if l.Version != want && !(left && l.Version == leftAs && l.Ended >= last.Began) {
			fault(l, "version %d, want %d", l.Version, want)
		}
		if l.Seq < l.Asked {
			fault(l, "the token asked for %d", l.Asked)
		}
	}
	// What had ended with which state, in the order of the ends.
	type known struct {
		at  time.Duration
		seq uint64
		by  string
	}
	var all []known
	for _, p := range puts {
		if p.Seq > 0 {
			all = append(all, known{p.Ended, p.Seq, fmt.Sprintf("a write of %q was acknowledged", p.Key)})
		}
	}
	fresh := slices.DeleteFunc(slices.Clone(looks), func(l Look) bool { return l.Served != "latest" && l.Served != "strong" })
	for _, l := range fresh {
		all = append(all, known{l.Ended, l.Seq, fmt.Sprintf("client %d had read", l.Client)})
	}
	slices.SortFunc(all, func(a, b known) int { return cmp.Compare(a.at, b.at) })
	slices.SortFunc(fresh, func(a, b Look) int { return cmp.Compare(a.Began, b.Began) })
	var newest known
	for i := 0; len(fresh) > 0; fresh = fresh[1:] {
		for ; i < len(all) && all[i].at < fresh[0].Began; i++ {
			if all[i].seq > newest.seq {
				newest = all[i]
			}
		}
		if fresh[0].Seq < newest.seq {
			fault(fresh[0], "at %v %s with %d", newest.at, newest.by, newest.seq)
		}
	}
	return problems
}
