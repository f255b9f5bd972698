package pods

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// world is what pods there are, and what they say.
type world struct {
	mu   sync.Mutex
	pods map[string]Info // by address
}

var errRefused = errors.New("connection refused")

func (w *world) ask(_ context.Context, addr string) (Info, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	info, ok := w.pods[addr]
	if !ok {
		return Info{}, errRefused
	}
	return info, nil
}

func (w *world) set(addr string, info Info) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pods[addr] = info
}

func (w *world) remove(addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pods, addr)
}

func is(name string, state State) Info {
	return Info{ID: "id of " + name, Name: name, State: state, Protocol: Protocol}
}

// member is a pod named "self" at address self:1 in a world of three.
func member(t *testing.T, addresses ...string) (*Members, *world, *[]int) {
	t.Helper()
	w := &world{pods: map[string]Info{"self:1": is("self", Ready), "a:1": is("a", Ready), "b:1": is("b", Ready)}}
	var said []int
	m := New(Config{Self: is("self", Ready), Addresses: Static(addresses), Ask: w.ask, Changed: func(n int) { said = append(said, n) }})
	m.Look(t.Context())
	return m, w, &said
}

func (m *Members) names() (names []string) {
	for _, p := range m.Ring().Peers() {
		names = append(names, p.Info.Name)
	}
	return names
}

func wantPeers(t *testing.T, m *Members, want ...string) {
	t.Helper()
	if got := m.names(); !slices.Equal(got, want) {
		t.Errorf("peers are %q, want %q", got, want)
	}
}

func TestMembers(t *testing.T) {
	m, w, said := member(t, "b:1", "a:1", "self:1", "nobody:1", "a:1")
	wantPeers(t, m, "a", "b")
	if m.Ring().Count() != 3 {
		t.Errorf("%d pods, want 3", m.Ring().Count())
	}
	peer := m.Ring().Peers()[0]
	m.Look(t.Context())
	if m.Ring().Peers()[0] != peer {
		t.Error("a peer that stays is another one")
	}

	// One that drains answers what it was asked; one that fails does not.
	w.set("a:1", is("a", Draining))
	m.Look(t.Context())
	wantPeers(t, m, "b")
	if closed(peer.Gone()) {
		t.Error("a draining peer is not waited for")
	}
	b := m.Ring().Peers()[0]
	w.remove("b:1")
	m.Look(t.Context())
	wantPeers(t, m)
	if !closed(b.Gone()) {
		t.Error("a peer that is away is waited for")
	}

	// They come back, starting first.
	w.set("b:1", is("b", Starting))
	m.Look(t.Context())
	wantPeers(t, m)
	w.set("b:1", is("b", Ready))
	m.Look(t.Context())
	wantPeers(t, m, "b")
	if m.Ring().Peers()[0] == b {
		t.Error("a peer that came back is the one that went")
	}
	if want := []int{3, 2, 1, 2}; !slices.Equal(*said, want) {
		t.Errorf("%v pods were said to be ready, want %v", *said, want)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestAFailedRequestMarksAPeerAwayAtOnce(t *testing.T) {
	m, _, _ := member(t, "a:1", "b:1")
	a := m.Ring().Peers()[0]
	m.Failed(a, errRefused)
	wantPeers(t, m, "b")
	if !closed(a.Gone()) {
		t.Error("other requests to it are waited for")
	}
	m.Look(t.Context())
	wantPeers(t, m, "a", "b")
	m.Failed(a, errRefused) // of the one that went
	wantPeers(t, m, "a", "b")
	m.Drains("id of b")
	wantPeers(t, m, "a")
	m.Drains("id of nobody")
	wantPeers(t, m, "a")
}

func TestARestartedPeerIsAnother(t *testing.T) {
	m, w, _ := member(t, "a:1", "b:1")
	a := m.Ring().Peers()[0]
	again := is("a", Ready)
	again.ID = "another run"
	w.set("a:1", again)
	m.Look(t.Context())
	wantPeers(t, m, "a", "b")
	if !closed(a.Gone()) || m.Ring().Peers()[0] == a {
		t.Error("the process that went is waited for")
	}
}

func TestWhoIsNoPeer(t *testing.T) {
	m, w, _ := member(t, "a:1", "b:1", "also-a:1")
	w.set("also-a:1", is("a", Ready)) // the same process by another way
	other := is("b", Ready)
	other.Protocol++
	w.set("b:1", other)
	m.Look(t.Context())
	if got := m.names(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("peers are %q, want a alone", got)
	}
}

// TestTheSilentAreNotBlamedForOurEnd: a look that is given up says nothing
// about anybody.
func TestTheSilentAreNotBlamedForOurEnd(t *testing.T) {
	m, w, _ := member(t, "a:1", "b:1")
	a := m.Ring().Peers()[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.remove("a:1")
	m.Look(ctx)
	wantPeers(t, m, "a", "b")
	if closed(a.Gone()) {
		t.Error("it is not waited for any more")
	}
}

func TestAddressesAreUsedOnWhenTheyCannotBeLookedUp(t *testing.T) {
	w := &world{pods: map[string]Info{"a:1": is("a", Ready)}}
	var fails error
	m := New(Config{Self: is("self", Ready), Ask: w.ask, Addresses: func(context.Context) ([]string, error) {
		return []string{"a:1"}, fails
	}})
	m.Look(t.Context())
	fails = errors.New("no name server")
	m.Look(t.Context())
	wantPeers(t, m, "a")
}

func TestRunLooksAgainAndAgain(t *testing.T) {
	w := &world{pods: map[string]Info{}}
	ctx, cancel := context.WithCancel(t.Context())
	var waited []time.Duration
	jitter := 0.0
	m := New(Config{
		Self: is("self", Ready), Ask: w.ask, Addresses: Static([]string{"a:1"}), Every: time.Second,
		Jitter: func() float64 { jitter += 0.25; return jitter - 0.25 },
		Wait: func(_ context.Context, d time.Duration) error {
			waited = append(waited, d.Round(time.Millisecond))
			if len(waited) == 2 {
				w.set("a:1", is("a", Ready))
			}
			if len(waited) == 3 {
				cancel()
			}
			return nil
		},
	})
	m.Run(ctx)
	wantPeers(t, m, "a")
	if want := []time.Duration{800 * time.Millisecond, 900 * time.Millisecond, time.Second}; !slices.Equal(waited, want) {
		t.Errorf("waited %v, want %v", waited, want)
	}
}

func TestDNS(t *testing.T) {
	now := time.Unix(0, 0)
	asked, hosts, fails := 0, []string{"10.0.0.1", "fd00::1"}, error(nil)
	lookup := func(_ context.Context, host string) ([]string, error) {
		asked++
		if host != "akidb-query" {
			return nil, fmt.Errorf("host %q", host)
		}
		return hosts, fails
	}
	addresses := DNS("akidb-query:8080", lookup, func() time.Time { return now })
	want := func(times int, want ...string) {
		t.Helper()
		got, err := addresses(t.Context())
		if err != nil || !slices.Equal(got, want) || asked != times {
			t.Errorf("%q, %v after %d look-ups, want %q after %d", got, err, asked, want, times)
		}
	}
	want(1, "10.0.0.1:8080", "[fd00::1]:8080")
	hosts = nil
	want(1, "10.0.0.1:8080", "[fd00::1]:8080") // not asked again yet
	now = now.Add(resolveEvery)
	want(2)
	now = now.Add(resolveEvery)
	fails = &net.DNSError{IsNotFound: true}
	want(3)
	now, fails = now.Add(resolveEvery), errors.New("time-out")
	if _, err := addresses(t.Context()); err == nil {
		t.Error("a failed look-up is an empty list")
	}
}
