package pods

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Peer is another pod, for as long as it is ready without a break.
type Peer struct {
	Addr string // host:port of its REST API
	Info Info

	// Outstanding is how many requests this pod has under way to it.
	Outstanding atomic.Int64

	gone     chan struct{}
	goneOnce sync.Once
}

// Gone is closed when the peer stopped answering. What it was asked need not be
// waited for any more. One that drains, or is taken off the list, is not gone:
// it answers what it was asked.
func (p *Peer) Gone() <-chan struct{} { return p.gone }

func (p *Peer) fail() { p.goneOnce.Do(func() { close(p.gone) }) }

// Config configures Members.
type Config struct {
	Self Info // with the state to begin in
	// Addresses returns host:port of every pod that may be there; the pod itself
	// may be among them. When it fails the last addresses are used on.
	Addresses func(ctx context.Context) ([]string, error)
	// Ask asks a pod about itself.
	Ask func(ctx context.Context, addr string) (Info, error)
	// Every is how often all are asked, give or take a fifth. 0 means 1 s.
	Every time.Duration
	// Changed is told how many pods are ready, this one included, whenever that
	// or who they are changes. Nil means nobody asks.
	Changed func(ready int)
	Logger  *slog.Logger // nil discards
	// Wait waits so long, and returns an error when ctx ends before. Nil means a
	// timer.
	Wait func(ctx context.Context, d time.Duration) error
	// Jitter returns numbers in [0, 1). Nil means random ones.
	Jitter func() float64
}

// askTimeout is how long a pod has to say that it is there. It says so from
// memory.
const askTimeout = time.Second

// Members knows which pods are ready. It is safe for concurrent use.
type Members struct {
	cfg  Config
	ring atomic.Pointer[Ring]

	mu        sync.Mutex
	self      Info
	addresses []string
	ready     map[string]*Peer // by address
	said      map[string]string
}

// New returns a pod that knows nobody yet. It does no I/O.
func New(cfg Config) *Members {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Changed == nil {
		cfg.Changed = func(int) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Wait == nil {
		cfg.Wait = wait
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	cfg.Self.Protocol = Protocol
	m := &Members{cfg: cfg, self: cfg.Self, ready: map[string]*Peer{}, said: map[string]string{}}
	m.ring.Store(newRing(m.self.Name, nil))
	return m
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ring is how segments are divided now. The pod itself is always in its own,
// whatever its state: what it is asked it answers.
func (m *Members) Ring() *Ring { return m.ring.Load() }

// Self is what this pod says of itself.
func (m *Members) Self() Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self
}

// SetState says where this pod is in its life.
func (m *Members) SetState(s State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.self.State = s
}

// Run looks who is there until ctx ends.
func (m *Members) Run(ctx context.Context) {
	for ctx.Err() == nil {
		m.Look(ctx)
		d := time.Duration(float64(m.cfg.Every) * (0.8 + 0.4*m.cfg.Jitter()))
		if m.cfg.Wait(ctx, d) != nil {
			return
		}
	}
}

// Look asks every pod once and waits for the answers.
func (m *Members) Look(ctx context.Context) {
	type answer struct {
		info Info
		err  error
	}
	addresses := m.resolve(ctx)
	answers := make([]answer, len(addresses))
	var asked sync.WaitGroup
	for i, addr := range addresses {
		asked.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			answers[i].info, answers[i].err = m.cfg.Ask(ctx, addr)
		})
	}
	asked.Wait()
	if ctx.Err() != nil {
		return // nobody's silence is theirs
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next, ids := map[string]*Peer{}, map[string]bool{m.self.ID: true}
	for i, addr := range addresses {
		info, err := answers[i].info, answers[i].err
		switch {
		case err != nil:
			m.say(addr, "away", "err", err)
			if p := m.ready[addr]; p != nil {
				p.fail()
			}
		case info.ID == m.self.ID:
		case info.Protocol != Protocol:
			m.say(addr, "of another version", "version", info.Version)
		case info.State != Ready:
			m.say(addr, string(info.State))
		case ids[info.ID]: // reached in two ways
		default:
			ids[info.ID] = true
			m.say(addr, "ready", "name", info.Name)
			p := m.ready[addr]
			if p != nil && p.Info.ID != info.ID {
				p.fail() // another process in its place
			}
			if p == nil || p.Info != info {
				p = &Peer{Addr: addr, Info: info, gone: make(chan struct{})}
			}
			next[addr] = p
		}
	}
	for addr := range m.said {
		if !slices.Contains(addresses, addr) {
			delete(m.said, addr)
		}
	}
	m.replace(next)
}

// say logs what is new about a pod. Callers hold mu.
func (m *Members) say(addr, what string, attrs ...any) {
	if m.said[addr] == what {
		return
	}
	m.said[addr] = what
	m.cfg.Logger.Info("pod "+what, append([]any{"addr", addr}, attrs...)...)
}

// resolve returns the addresses, without repeats and in order.
func (m *Members) resolve(ctx context.Context) []string {
	found, err := m.cfg.Addresses(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.cfg.Logger.Debug("pods not looked up, those known are used on", "err", err)
		return m.addresses
	}
	found = slices.Clone(found)
	slices.Sort(found)
	m.addresses = slices.Compact(found)
	return m.addresses
}

// replace makes next the ready pods. Callers hold mu.
func (m *Members) replace(next map[string]*Peer) {
	changed := len(next) != len(m.ready)
	peers := make([]*Peer, 0, len(next))
	for addr, p := range next {
		changed = changed || m.ready[addr] != p
		peers = append(peers, p)
	}
	m.ready = next
	if !changed {
		return
	}
	sortPeers(peers)
	m.ring.Store(newRing(m.self.Name, peers))
	m.cfg.Changed(len(peers) + 1)
}

// Failed says that a peer could not be reached. It is away until it answers
// again.
func (m *Members) Failed(p *Peer, err error) {
	p.fail()
	m.leave(p, "away", err)
}

// Drains says that a pod is draining, as it said itself.
func (m *Members) Drains(id string) {
	m.mu.Lock()
	var leaving *Peer
	for _, p := range m.ready {
		if p.Info.ID == id {
			leaving = p
		}
	}
	m.mu.Unlock()
	if leaving != nil {
		m.leave(leaving, string(Draining), nil)
	}
}

// leave takes a peer out, if it is not out already or another in its place.
func (m *Members) leave(p *Peer, what string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ready[p.Addr] != p {
		return
	}
	if err != nil {
		m.say(p.Addr, what, "err", err)
	} else {
		m.say(p.Addr, what)
	}
	next := map[string]*Peer{}
	for addr, other := range m.ready {
		if other != p {
			next[addr] = other
		}
	}
	m.replace(next)
}

// Static returns addresses that do not change.
func Static(addresses []string) func(context.Context) ([]string, error) {
	return func(context.Context) ([]string, error) { return addresses, nil }
}

// resolveEvery is how long the answer to a look-up of a name is used: pods come
// and go in seconds, and a name server should not be asked for each of them.
const resolveEvery = 3 * time.Second

// lookupTimeout bounds a look-up.
const lookupTimeout = 2 * time.Second

// DNS returns the addresses behind a host name, which is host:port, looked up
// anew after some seconds. A name that is not there has nobody behind it.
func DNS(name string, lookup func(ctx context.Context, host string) ([]string, error), now func() time.Time) func(context.Context) ([]string, error) {
	var mu sync.Mutex
	var known []string
	var at time.Time
	return func(ctx context.Context) ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		if !at.IsZero() && now().Sub(at) < resolveEvery {
			return known, nil
		}
		host, port, err := net.SplitHostPort(name)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		hosts, err := lookup(ctx, host)
		if notThere, ok := errors.AsType[*net.DNSError](err); ok && notThere.IsNotFound {
			hosts, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
		known, at = nil, now()
		for _, h := range hosts {
			known = append(known, net.JoinHostPort(strings.TrimSpace(h), port))
		}
		return known, nil
	}
}
