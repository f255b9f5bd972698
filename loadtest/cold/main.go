// Command cold measures what a query costs a process that has nothing: no collection, no manifest, no
// byte of data, and a store that takes its time.
//
//	versitygw … posix DIR &                       # any S3 server
//	akidb dev --store s3://bench/a … &            # stores the data; see ../search --load
//	go run ./loadtest/cold --bin bin/akidb --s3-endpoint http://127.0.0.1:7070 --store s3://bench/a --data /tmp/bench/clu1m_128
//
// A proxy before the store holds every read back by --delay and counts it. `akidb query` is started
// again and again; half of the starts ask for the collection first, which reads its manifest. Reported
// are the time from the start of the process until it is ready, the first answer, and the answers to
// further queries, each sent once and then once more. Credentials are those of the environment.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/loadtest/dataset"
)

type options struct {
	bin, endpoint, store, collection string
	delay                            time.Duration
	starts, queries, k               int
	recall                           float64
	args                             []string // further flags of akidb query
}

func main() {
	var o options
	data := flag.String("data", "", "`DIR` of the data set, for queries and truth")
	serve := flag.String("serve", "", "only be the slow store, at `ADDRESS`, for something else to measure")
	flag.StringVar(&o.bin, "bin", "bin/akidb", "`FILE` of the program")
	flag.StringVar(&o.endpoint, "s3-endpoint", "", "`URL` of the S3 server")
	flag.StringVar(&o.store, "store", "", "`URL` of the store, s3://bucket/prefix")
	flag.StringVar(&o.collection, "collection", "bench", "`NAME` of the collection")
	flag.DurationVar(&o.delay, "delay", 60*time.Millisecond, "that every read of the store is held back")
	flag.IntVar(&o.starts, "starts", 20, "of the process")
	flag.IntVar(&o.queries, "queries", 20, "a start, after the first")
	flag.IntVar(&o.k, "k", 10, "results a query")
	flag.Float64Var(&o.recall, "recall", 0.95, "target recall")
	flag.Parse()
	o.args = flag.Args()
	if *serve != "" && o.endpoint != "" {
		fmt.Fprintln(os.Stderr, "cold:", serveSlowStore(*serve, o.endpoint, o.delay))
		os.Exit(1)
	}
	if *data == "" || o.endpoint == "" || o.store == "" || o.starts < 2 || o.queries < 1 {
		fmt.Fprintln(os.Stderr, "cold: want --data, --s3-endpoint, --store, at least 2 starts and a query; what follows -- goes to akidb query")
		os.Exit(2)
	}
	if err := run(o, *data); err != nil {
		fmt.Fprintln(os.Stderr, "cold:", err)
		os.Exit(1)
	}
}

func run(o options, data string) error {
	set, err := dataset.Load(data)
	if err != nil {
		return err
	}
	slow, err := startSlowStore(o.endpoint, o.delay)
	if err != nil {
		return err
	}
	defer slow.close()
	var t tally
	next := 0
	for start := range o.starts {
		described := start%2 == 1
		if err := t.start(o, set, slow, described, &next); err != nil {
			return fmt.Errorf("start %d: %w", start, err)
		}
	}
	t.print(o)
	return nil
}

// observation is one answer, as the client and the proxy saw it.
type observation struct {
	ms, gets, kb, rounds float64
	found, wanted        int
}

// tally is what all starts came to.
type tally struct {
	ready                           []float64 // ms
	first, afterManifest, new, same []observation
}

func (t *tally) start(o options, set *dataset.Set, slow *slowStore, described bool, next *int) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "akidb-cold-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c := exec.Command(o.bin, append([]string{"query", "--auth", "off", "--data-dir", dir, "--store", o.store, "--s3-endpoint", slow.url, "--s3-path-style=true", "--s3-region", "us-east-1",
		"--http-addr", ports[0], "--grpc-addr", ports[1], "--admin-addr", ports[2], "--log-level", "error"}, o.args...)...)
	c.Stderr = os.Stderr
	began := time.Now()
	if err := c.Start(); err != nil {
		return err
	}
	defer func() { _ = c.Process.Signal(syscall.SIGTERM); _ = c.Wait() }()
	if err := awaitReady("http://" + ports[2]); err != nil {
		return err
	}
	t.ready = append(t.ready, milliseconds(time.Since(began)))
	api, err := client.New(client.Config{URL: "http://" + ports[0], RetryFor: -1})
	if err != nil {
		return err
	}
	defer api.Close()
	ctx := context.Background()
	if described {
		if _, err := api.GetCollection(ctx, o.collection); err != nil {
			return err
		}
	}
	ask := func(to *[]observation, query int) error {
		slow.reset()
		sent := time.Now()
		got, err := api.Search(ctx, o.collection, client.SearchRequest{
			Vector: set.Query(query), K: o.k, TargetRecall: o.recall, Consistency: "eventual", Include: []string{"metadata"},
		})
		if err != nil {
			return err
		}
		ob := observation{ms: milliseconds(time.Since(sent)), wanted: o.k, rounds: float64(got.Usage.Rounds)}
		ob.gets, ob.kb = slow.counted()
		for _, r := range got.Results {
			if slices.ContainsFunc(set.Truth[query][:o.k], func(row uint32) bool { return fmt.Sprint(row) == r.ID }) {
				ob.found++
			}
		}
		*to = append(*to, ob)
		return nil
	}
	first := &t.first
	if described {
		first = &t.afterManifest
	}
	query := func(n int) int { return (*next + n) % len(set.Truth) }
	if err := ask(first, query(0)); err != nil {
		return err
	}
	for n := range o.queries {
		if err := ask(&t.new, query(1+n)); err != nil {
			return err
		}
	}
	for n := range o.queries {
		if err := ask(&t.same, query(1+n)); err != nil {
			return err
		}
	}
	*next += 1 + o.queries
	return nil
}

func (t *tally) print(o options) {
	fmt.Printf("ready after %.0f ms (median of %d starts, slowest %.0f); a read of the store takes %v longer\n\n",
		quantile(t.ready, 0.5), len(t.ready), quantile(t.ready, 1), o.delay)
	fmt.Println("| answer | of | p50 ms | p90 ms | GETs | KB | rounds of the search | recall |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, line := range []struct {
		name string
		of   []observation
	}{
		{"the first of a process that has nothing", t.first},
		{"the first, after the collection was asked for", t.afterManifest},
		{"to further queries, each new", t.new},
		{"to those again", t.same},
	} {
		pick := func(value func(observation) float64, q float64) float64 {
			values := make([]float64, len(line.of))
			for i, ob := range line.of {
				values[i] = value(ob)
			}
			return quantile(values, q)
		}
		found, wanted := 0, 0
		for _, ob := range line.of {
			found, wanted = found+ob.found, wanted+ob.wanted
		}
		ms := func(ob observation) float64 { return ob.ms }
		fmt.Printf("| %s | %d | %.1f | %.1f | %.0f | %.0f | %.0f | %.4f |\n", line.name, len(line.of), pick(ms, 0.5), pick(ms, 0.9),
			pick(func(ob observation) float64 { return ob.gets }, 0.5), pick(func(ob observation) float64 { return ob.kb }, 0.5),
			pick(func(ob observation) float64 { return ob.rounds }, 0.5), float64(found)/float64(wanted))
	}
}

// quantile is the nearest-rank one.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// freePorts returns addresses that nobody listens on at this moment.
func freePorts(count int) (out []string, err error) {
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// awaitReady asks until the process says that it is ready.
func awaitReady(admin string) error {
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(time.Millisecond) {
		resp, err := http.Get(admin + "/readyz")
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return errors.New("the process is not ready after a minute")
}
