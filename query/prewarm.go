package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/query/pods"
)

// HotSegment is a segment that a pod has in memory.
type HotSegment struct {
	Collection string  `json:"collection"` // id
	Segment    string  `json:"segment"`
	Heat       float64 `json:"heat"` // searches, older ones counting less
	Bytes      int64   `json:"bytes"`
}

// HandOver is what a pod that drains leaves to others.
type HandOver struct {
	From     string       `json:"from"` // id of the pod
	Segments []HotSegment `json:"segments"`
}

const (
	// maxHotSegments bounds a hot list. The rest is colder.
	maxHotSegments = 16 << 10
	// hotTimeout is how long a peer has to give or take a hot list.
	hotTimeout = 2 * time.Second
	// handOverTime is how long what was handed over may take to load.
	handOverTime = 2 * time.Minute
	// warmParallel is how many collections are looked up at once. Segments are
	// loaded one after the other all the same.
	warmParallel = 4
)

// Join has the pod take its place among the others: it finds them, loads what
// they have in memory and it will own, for at most so long, and is ready then.
// The pod has to be reachable already. Without peers it loads what collections are
// placed in memory.
func (s *Service) Join(ctx context.Context, most time.Duration) {
	if s.fleet == nil {
		return
	}
	began := s.cfg.Now()
	members := s.fleet.members
	members.Look(ctx)
	s.catalog.background(members.Run)
	peers := members.Ring().Peers()
	warming, cancel := context.WithTimeout(ctx, most)
	hot := s.share(s.fleet.hotLists(warming, peers))
	err := errors.Join(s.warmAll(warming, hot), s.warmPlaced(warming))
	cancel()
	members.SetState(pods.Ready)
	log := []any{slog.Int("peers", len(peers)), slog.Int("segments", len(hot)), slog.Duration("took", s.cfg.Now().Sub(began))}
	if err != nil {
		s.cfg.Logger.Warn("pod is ready before its share is warm", append(log, slog.Any("err", err))...)
		return
	}
	s.cfg.Logger.Info("pod is ready", log...)
}

// Leave has the pod give its place up: peers ask it for nothing more, and those
// that come to own what it has in memory are told to load that. It goes on
// answering what it is asked.
func (s *Service) Leave(ctx context.Context) {
	if s.fleet == nil {
		return
	}
	f := s.fleet
	f.members.SetState(pods.Draining)
	ring := f.members.Ring()
	lists := map[*pods.Peer][]HotSegment{}
	for _, seg := range s.publicHotList() {
		for _, heir := range ring.Heirs(seg.Collection, seg.Segment) {
			lists[heir] = append(lists[heir], seg)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, hotTimeout)
	defer cancel()
	var g errgroup.Group
	for _, p := range ring.Peers() {
		g.Go(func() error {
			err := f.cfg.Peers.HandOver(ctx, p.Addr, &HandOver{f.members.Self().ID, lists[p]})
			if err != nil {
				s.cfg.Logger.Warn("nothing handed over", "pod", p.Info.Name, "segments", len(lists[p]), "err", err)
			}
			return nil
		})
	}
	_ = g.Wait()
}

func (s *Service) publicHotList() []HotSegment {
	list := s.hotList()
	out := make([]HotSegment, 0, len(list))
	for _, h := range list[:min(len(list), maxHotSegments)] {
		out = append(out, HotSegment{h.collection, h.id, h.heat, h.bytes})
	}
	return out
}

// hotLists asks peers what they have in memory. Those that do not say are passed
// over.
func (f *fleet) hotLists(ctx context.Context, peers []*pods.Peer) []HotSegment {
	ctx, cancel := context.WithTimeout(ctx, hotTimeout)
	defer cancel()
	lists := make([][]HotSegment, len(peers))
	var g errgroup.Group
	for i, p := range peers {
		g.Go(func() error {
			var err error
			if lists[i], err = f.cfg.Peers.Hot(ctx, p.Addr); err != nil {
				f.service.cfg.Logger.Warn("pod does not say what is hot", "pod", p.Info.Name, "err", err)
			}
			return nil
		})
	}
	_ = g.Wait()
	return slices.Concat(lists...)
}

// share is what of hot segments this pod owns and has room for, hottest first.
func (s *Service) share(hot []HotSegment) []HotSegment {
	type name struct{ collection, segment string }
	hottest := map[name]HotSegment{}
	for _, h := range hot {
		n := name{h.Collection, h.Segment}
		if old, known := hottest[n]; (!known || h.Heat > old.Heat) && s.fleet.owns(h.Collection, h.Segment) {
			hottest[n] = h
		}
	}
	var own []HotSegment
	for _, h := range hottest {
		own = append(own, h)
	}
	slices.SortFunc(own, func(a, b HotSegment) int {
		return cmp.Or(cmp.Compare(b.Heat, a.Heat), cmp.Compare(a.Collection, b.Collection), cmp.Compare(a.Segment, b.Segment))
	})
	room := s.cfg.ResidentBytes
	return slices.DeleteFunc(own, func(h HotSegment) bool {
		if h.Bytes < 0 || h.Bytes > room {
			return true
		}
		room -= h.Bytes
		return false
	})
}

// warmAll loads segments, and does what it can where some cannot be.
func (s *Service) warmAll(ctx context.Context, hot []HotSegment) error {
	var order []string // of collections, hottest first
	of := map[string][]string{}
	for _, h := range hot {
		if of[h.Collection] == nil {
			order = append(order, h.Collection)
		}
		of[h.Collection] = append(of[h.Collection], h.Segment)
	}
	errs := make([]error, len(order))
	var g errgroup.Group
	g.SetLimit(warmParallel)
	for i, collection := range order {
		g.Go(func() error {
			if err := s.warmSegments(ctx, collection, of[collection]); err != nil {
				errs[i] = fmt.Errorf("collection %q: %w", collection, err)
			}
			return nil
		})
	}
	_ = g.Wait()
	return errors.Join(errs...)
}

// warmPlaced loads what this pod owns of collections that are placed in memory.
func (s *Service) warmPlaced(ctx context.Context) error {
	all, err := s.catalog.all(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range all {
		snap, _ := r.snapshot()
		if rankOf(snap) < placed {
			continue
		}
		var ids []string
		for _, seg := range snap.Segments {
			ids = append(ids, seg.ID)
		}
		if err := s.warmSegments(ctx, r.id, ids); err != nil && !errors.Is(err, errNoRoom) {
			errs = append(errs, fmt.Errorf("collection %q: %w", r.id, err))
		}
	}
	return errors.Join(errs...)
}

// getHot says what is in memory here, hottest first.
func (s *Service) getHot(ctx *fasthttp.RequestCtx) error {
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, HandOver{Segments: s.publicHotList()})
}

// postHot takes over from a pod that drains.
func (s *Service) postHot(ctx *fasthttp.RequestCtx) error {
	if s.fleet == nil {
		return notAmongPods
	}
	var over HandOver
	if err := httpapi.ReadJSON(ctx, &over); err != nil {
		return err
	}
	if n := len(over.Segments); n > maxHotSegments {
		return httpapi.Unprocessable("out_of_range", "segments", "segments has %d entries, want at most %d", n, maxHotSegments)
	}
	s.fleet.members.Drains(over.From) // first: what it owned is ours only then
	s.catalog.background(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, handOverTime)
		defer cancel()
		own := s.share(over.Segments)
		if err := s.warmAll(ctx, own); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("not all that was handed over is loaded", "from", over.From, "segments", len(own), "err", err)
		}
	})
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, struct{}{})
}
