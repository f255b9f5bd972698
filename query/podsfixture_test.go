package query

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/query/pods"
	"github.com/akidb/akidb/segments/ivfpq"
)

// podsFixture is a fixture with several services that know each other.
type podsFixture struct {
	*fixture
	services  []*Service
	addresses []string
	net       *podNet
}

// podNet takes what pods send to each other to the routes of whom it is for, and
// spoils it on the way.
type podNet struct {
	mu      sync.Mutex
	routers map[string]*httpapi.Router
	// spoil, if not nil, is how an answer is spoilt that a pod gives.
	spoil func(to string, question, answer []byte, err error) ([]byte, error)
	// before, if not nil, is called with every question on its way.
	before func(ctx context.Context, to string) error
	asked  int
	hedge  bool        // peers are slow at once
	gaveUp chan uint64 // if not nil, takes the numbers of questions given up
}

func (n *podNet) after(time.Duration) (<-chan time.Time, func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := make(chan time.Time, 1)
	if n.hedge {
		c <- time.Time{}
	}
	return c, func() {}
}

// nobody answers at an address.
var errNobody = errors.New("connection refused")

func (n *podNet) send(addr, method, path string, body []byte) ([]byte, error) {
	n.mu.Lock()
	r := n.routers[addr]
	n.mu.Unlock()
	if r == nil {
		return nil, errNobody
	}
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod(method)
	ctx.Request.SetRequestURI(path)
	ctx.Request.SetBody(body)
	ctx.Request.Header.SetContentType("application/json") // where it counts
	err := r.Serve(&ctx)
	if known, ok := errors.AsType[*httpapi.Error](err); ok {
		return nil, &RefusedError{Status: known.Status, Code: known.Code}
	}
	return slices.Clone(ctx.Response.Body()), err
}

func (n *podNet) Pod(_ context.Context, addr string) (info pods.Info, err error) {
	b, err := n.send(addr, "GET", "/internal/v1/pod", nil)
	if err == nil {
		err = httpapi.DecodeJSON(b, &info)
	}
	return info, err
}

func (n *podNet) Search(ctx context.Context, addr, collection string, question []byte) ([]byte, error) {
	n.mu.Lock()
	n.asked++
	before, spoil := n.before, n.spoil
	n.mu.Unlock()
	if before != nil {
		if err := before(ctx, addr); err != nil {
			return nil, err
		}
	}
	answer, err := n.send(addr, "POST", "/internal/v1/collections/"+collection+"/search", question)
	if spoil != nil {
		return spoil(addr, question, answer, err)
	}
	return answer, err
}

func (n *podNet) GiveUp(_ context.Context, addr string, question uint64) error {
	_, err := n.send(addr, "DELETE", fmt.Sprintf("/internal/v1/questions/%d", question), nil)
	if n.gaveUp != nil {
		n.gaveUp <- question
	}
	return err
}

func (n *podNet) Hot(_ context.Context, addr string) ([]HotSegment, error) {
	b, err := n.send(addr, "GET", "/internal/v1/hot", nil)
	var list HandOver
	if err == nil {
		err = httpapi.DecodeJSON(b, &list)
	}
	return list.Segments, err
}

func (n *podNet) HandOver(_ context.Context, addr string, what *HandOver) error {
	b, err := json.Marshal(what)
	if err == nil {
		_, err = n.send(addr, "POST", "/internal/v1/hot", b)
	}
	return err
}

// newPod returns a service that may have the others of f as its peers.
func (f *podsFixture) newPod(addr string) (*Service, *httpapi.Router) {
	f.t.Helper()
	ranges, err := cache.New(cache.Config{Bytes: 64 << 20}, f.store)
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := New(Config{
		Store: f.store, Ranges: ranges, Writer: f.writer, ResidentBytes: 64 << 20, Now: f.clock, Registerer: prometheus.NewRegistry(),
		Pods: &PodsConfig{
			Self: pods.Info{ID: "id of " + addr, Name: addr}, Peers: f.net, After: f.net.after, Every: time.Hour,
			Addresses: func(context.Context) ([]string, error) { return f.addresses, nil },
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(ranges.Close)
	f.t.Cleanup(s.Close)
	r := httpapi.NewRouter()
	s.Register(r)
	s.RegisterPods(r)
	return s, r
}

// newPods returns so many services on one store that are ready and know it.
func newPods(t testing.TB, count, dim int, metric string) *podsFixture {
	f := &podsFixture{fixture: newFixture(t, dim, metric), net: &podNet{routers: map[string]*httpapi.Router{}}}
	f.writer.kind = ivfpq.Flat
	for i := range count {
		f.addresses = append(f.addresses, fmt.Sprintf("pod-%d:80", i))
	}
	for _, addr := range f.addresses {
		s, r := f.newPod(addr)
		f.services, f.net.routers[addr] = append(f.services, s), r
		s.fleet.members.SetState(pods.Ready)
	}
	f.look()
	return f
}

func (f *podsFixture) look() {
	for _, s := range f.services {
		s.fleet.members.Look(f.t.Context())
	}
}

// stateOf is what a service has of the collection, as fresh as asked for.
func (f *podsFixture) stateOf(s *Service, c Consistency) (*replica, *state) {
	f.t.Helper()
	r, err := s.catalog.find(f.t.Context(), "movies")
	if err != nil {
		f.t.Fatal(err)
	}
	st, _, err := r.acquire(f.t.Context(), Freshness{Consistency: c})
	if err != nil {
		f.t.Fatal(err)
	}
	return r, st
}

// counted is what a counter has come to.
func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families[0].Metric[0].Counter.GetValue()
}

// fill writes segments of random rows, and deletes and replaces some.
func (f *podsFixture) fill(rng *rand.Rand, segments, rows int) {
	for i := range segments {
		f.write(rng, rows, i*rows)
		f.writer.flush()
	}
}

func (f *podsFixture) write(rng *rand.Rand, rows, from int) {
	for i := range rows {
		f.writer.upsert(fmt.Sprintf("r%05d", from+i), normal(rng, f.writer.dim, 1), fmt.Sprintf(`{"n":%d}`, rng.IntN(10)))
	}
}
